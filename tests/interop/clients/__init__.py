"""The clients that people use: openstack, openstacksdk, glanceclient, keystoneauth, gophercloud."""
