// One image's whole life with gophercloud itself, as Terraform's provider drives it.
//
// Usage: gophercloud_program DISK COPY. Who and where comes from the OS_* environment. Uploads DISK
// as a qcow2 image, finds it, changes it, shares it, downloads it to COPY, deletes it, and prints
// what it saw as JSON on one line. Ends with status 1 and a message at the first surprise.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/imagedata"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/images"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/members"
	"github.com/gophercloud/gophercloud/pagination"
)

func must(doing string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", doing, err)
		os.Exit(1)
	}
}

func main() {
	options, err := openstack.AuthOptionsFromEnv()
	must("environment", err)
	options.AllowReauth = true
	provider, err := openstack.AuthenticatedClient(options)
	must("log in", err)
	client, err := openstack.NewImageServiceV2(provider, gophercloud.EndpointOpts{
		Region: os.Getenv("OS_REGION_NAME"),
	})
	must("find the image service", err)

	visibility := images.ImageVisibilityShared
	created, err := images.Create(client, images.CreateOpts{
		Name:            "gophercloud",
		DiskFormat:      "qcow2",
		ContainerFormat: "bare",
		Visibility:      &visibility,
		MinDisk:         1,
		MinRAM:          64,
		Tags:            []string{"gophercloud", "terraform"},
		Properties:      map[string]string{"hw_disk_bus": "virtio"},
	}).Extract()
	must("create", err)

	disk, err := os.Open(os.Args[1])
	must("open the disk", err)
	must("upload", imagedata.Upload(client, created.ID, disk).ExtractErr())

	updated, err := images.Update(client, created.ID, images.UpdateOpts{
		images.ReplaceImageName{NewName: "gophercloud-new"},
		images.ReplaceImageTags{NewTags: []string{"gophercloud"}},
		images.UpdateImageProperty{Op: images.AddOp, Name: "os_distro", Value: "debian"},
	}).Extract()
	must("update", err)

	listed := []string{}
	err = images.List(client, images.ListOpts{Tags: []string{"gophercloud"}, Limit: 1}).EachPage(
		func(page pagination.Page) (bool, error) {
			found, err := images.ExtractImages(page)
			for _, image := range found {
				listed = append(listed, image.Name)
			}
			return true, err
		})
	must("list", err)

	_, err = members.Create(client, created.ID, "somebody").Extract()
	must("share", err)
	pages, err := members.List(client, created.ID).AllPages()
	must("list the members", err)
	shared, err := members.ExtractMembers(pages)
	must("read the members", err)
	must("unshare", members.Delete(client, created.ID, "somebody").ExtractErr())

	body, err := imagedata.Download(client, created.ID).Extract()
	must("download", err)
	target, err := os.Create(os.Args[2])
	must("open the copy", err)
	_, err = io.Copy(target, body)
	must("copy", err)
	must("close the copy", target.Close())

	shown, err := images.Get(client, created.ID).Extract()
	must("show", err)
	must("delete", images.Delete(client, created.ID).ExtractErr())
	_, gone := images.Get(client, created.ID).Extract()
	_, isNotFound := gone.(gophercloud.ErrDefault404)

	must("print", json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"created":      created.Status,
		"name":         updated.Name,
		"tags":         updated.Tags,
		"os_distro":    updated.Properties["os_distro"],
		"listed":       listed,
		"members":      len(shared),
		"member":       shared[0].Status,
		"status":       shown.Status,
		"size":         shown.SizeBytes,
		"checksum":     shown.Checksum,
		"is_not_found": isNotFound,
	}))
}
