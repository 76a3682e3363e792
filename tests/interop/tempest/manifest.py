"""The list of images, good and bad, that tempest's tests of formats go through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.interop.images import corpus, qemu


def write(folder: Path) -> Path:
    """Put the images and their list into a folder; the path of the list."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []

    def add(name: str, disk_format: str, *, usable: bool = True, insecure: bool = False) -> Path:
        images.append(
            {
                "name": name,
                "format": disk_format,
                "filename": name,
                "usable": usable,
                "insecure": insecure,
            }
        )
        return folder / name

    for image in corpus.build().values():
        if image.kind.container_format == "bare":
            shutil.copy(image.path, add(image.name, image.kind.disk_format))
    base = folder / "grub-rescue-raw"
    for name, options in (("qcow2-old", "compat=0.10"), ("qcow2-clusters", "cluster_size=2M")):
        path = add(name, "qcow2")
        qemu.qemu_img("convert", "-O", "qcow2", "-o", options, str(base), str(path))
    qemu.qemu_img("convert", "-c", "-O", "qcow2", str(base), str(add("qcow2-compressed", "qcow2")))
    # What reaches into the host that opens it.
    for name, options in (
        ("qcow2-backing", f"backing_file={base},backing_fmt=raw"),
        ("qcow2-data-file", f"data_file={folder / 'elsewhere'}"),
    ):
        path = add(name, "qcow2", usable=False, insecure=True)
        qemu.qemu_img("create", "-f", "qcow2", "-o", options, str(path), "1M")
    flat = add("vmdk-flat", "vmdk", usable=False, insecure=True)
    qemu.qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(flat), "1M")
    # A list in JSON is one in YAML.
    listed = folder / "manifest.yaml"
    listed.write_text(json.dumps({"images": images}))
    return listed
