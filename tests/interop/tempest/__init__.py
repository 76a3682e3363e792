"""tempest and its Glance plug-in against Transom and a real Keystone."""
