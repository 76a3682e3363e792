"""Images for tempest: two to import from the web, and a list of good and bad ones to try."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from tests.interop.images import corpus, qemu

SIZE_BYTES = 2 * 1024 * 1024
KINDS = (
    ("qcow2", "qcow2", "qcow2", ()),
    ("qcow2-old", "qcow2", "qcow2", ("-o", "compat=0.10")),
    ("qcow2-clusters", "qcow2", "qcow2", ("-o", "cluster_size=2M")),
    ("qcow2-compressed", "qcow2", "qcow2", ("-c",)),
    ("vmdk-sparse", "vmdk", "vmdk", ("-o", "subformat=monolithicSparse")),
    ("vmdk-stream", "vmdk", "vmdk", ("-o", "subformat=streamOptimized")),
    ("vhd", "vhd", "vpc", ("-o", "force_size=on")),
    ("vhdx", "vhdx", "vhdx", ()),
    ("vdi", "vdi", "vdi", ()),
)
"""Name, disk format, what qemu-img calls it, and how it is made."""


def disk(folder: Path) -> Path:
    """A disk with nothing on it that anybody could know."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "raw"
    path.write_bytes(random.Random(1).randbytes(SIZE_BYTES))
    return path


def convert(source: Path, target: Path, qemu_format: str, *options: str) -> None:
    """Make an image of a disk."""
    qemu.qemu_img("convert", "-f", "raw", "-O", qemu_format, *options, str(source), str(target))


def write(folder: Path) -> Path:
    """Put the images and their list into a folder; the path of the list."""
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

    base = disk(folder)
    add("raw", "raw")
    for name, disk_format, qemu_format, options in KINDS:
        convert(base, add(name, disk_format), qemu_format, *options)
    shutil.copy(corpus.build()["ipxe-iso"].path, add("iso", "iso"))
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
