"""The corpus: bootable images as Debian ships them, and every disk format made from one.

Nothing in it was made by us. GRUB's rescue image is at once an ISO and a partitioned disk, so the
formats that qemu-img makes from it boot as hard disks. The made files are kept between runs in a
folder of the system's temporary folder, named after what they are made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.interop.images import qemu

GRUB = Path("/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
GRUB_BANNER = "GNU GRUB  version"
IPXE_BANNER = "Open Source Network Boot Firmware"
MEMTEST_BANNER = "Memtest86+ v"


@dataclass(frozen=True)
class Kind:
    """One image of the corpus, before it is known where the file lies.

    `shipped` is the file as a package installs it; empty means that qemu-img makes it from GRUB
    with `qemu_format` and `options`. `boot` are the emulator's arguments, with `{}` for the file.
    """

    name: str
    disk_format: str
    banner: str
    boot: tuple[str, ...]
    container_format: str = "bare"
    shipped: str = ""
    package: str = ""
    qemu_format: str = "raw"
    options: str = ""


_CD = ("-cdrom", "{}")
_KERNEL = ("-kernel", "{}", "-append", "console=ttyS0,115200")
_FLOPPY = ("-drive", "file={},format=raw,if=floppy,snapshot=on", "-boot", "a")


def _disk(qemu_format: str) -> tuple[str, ...]:
    return ("-drive", f"file={{}},format={qemu_format},if=ide,snapshot=on")


def _made(name: str, disk_format: str, qemu_format: str, options: str = "") -> Kind:
    return Kind(
        name=f"grub-rescue-{name}",
        disk_format=disk_format,
        banner=GRUB_BANNER,
        boot=_disk(qemu_format),
        qemu_format=qemu_format,
        options=options,
    )


KINDS = (
    Kind(
        name="grub-rescue-iso",
        disk_format="iso",
        banner=GRUB_BANNER,
        boot=_CD,
        shipped=str(GRUB),
        package="grub-rescue-pc",
    ),
    Kind(
        name="grub-rescue-floppy",
        disk_format="raw",
        banner=GRUB_BANNER,
        boot=_FLOPPY,
        shipped="/usr/lib/grub-rescue/grub-rescue-floppy.img",
        package="grub-rescue-pc",
    ),
    Kind(
        name="ipxe-iso",
        disk_format="iso",
        banner=IPXE_BANNER,
        boot=_CD,
        shipped="/usr/lib/ipxe/ipxe.iso",
        package="ipxe",
    ),
    Kind(
        name="ipxe-kernel",
        disk_format="aki",
        container_format="aki",
        banner=IPXE_BANNER,
        boot=_KERNEL,
        shipped="/boot/ipxe.lkrn",
        package="ipxe",
    ),
    Kind(
        name="memtest86-kernel",
        disk_format="aki",
        container_format="aki",
        banner=MEMTEST_BANNER,
        boot=_KERNEL,
        shipped="/boot/memtest86+x64.bin",
        package="memtest86+",
    ),
    _made("raw", "raw", "raw"),
    _made("qcow2", "qcow2", "qcow2"),
    _made("vmdk-sparse", "vmdk", "vmdk", "subformat=monolithicSparse"),
    _made("vmdk-stream", "vmdk", "vmdk", "subformat=streamOptimized"),
    # QEMU calls the format vpc, after Virtual PC; the Image API calls it vhd. Without force_size
    # the disk would be rounded up to a whole number of cylinders.
    _made("vhd", "vhd", "vpc", "force_size=on"),
    _made("vhdx", "vhdx", "vhdx"),
    _made("vdi", "vdi", "vdi"),
)


@dataclass(frozen=True)
class BootableImage:
    """One image of the corpus on this machine."""

    kind: Kind
    path: Path
    size_bytes: int
    sha512: str

    @property
    def name(self) -> str:
        """Its name in the corpus, e.g. `grub-rescue-vmdk-stream`."""
        return self.kind.name

    def boot_arguments(self, path: Path) -> list[str]:
        """Arguments that make the emulator boot a copy of it at `path`."""
        return [argument.format(path) for argument in self.kind.boot]


def build() -> dict[str, BootableImage]:
    """The whole corpus by name; makes what is not there yet. Safe to run in several processes."""
    for kind in KINDS:
        if kind.shipped and not Path(kind.shipped).is_file():
            raise AssertionError(
                f"{kind.shipped} is missing; `make test` installs it, or: "
                f"apt-get install {kind.package}"
            )
    folder = _made_folder()
    images = {}
    for kind in KINDS:
        path = Path(kind.shipped) if kind.shipped else folder / kind.name
        data = path.read_bytes()
        images[kind.name] = BootableImage(kind, path, len(data), hashlib.sha512(data).hexdigest())
    return images


def _made_folder() -> Path:
    """The folder of what qemu-img makes from GRUB, filled."""
    made = [kind for kind in KINDS if not kind.shipped]
    recipe = "\n".join(
        [
            hashlib.sha256(GRUB.read_bytes()).hexdigest(),
            qemu.qemu_img("--version"),
            *(f"{kind.name} {kind.qemu_format} {kind.options}" for kind in made),
        ]
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    parent = Path(tempfile.gettempdir())
    folder = parent / f"transom-images-{os.getuid()}-{digest}"
    if _is_ours(folder):
        return folder
    # Fill a folder of our own first: another process may be doing the same.
    filling = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=parent))
    try:
        for kind in made:
            options = ("-o", kind.options) if kind.options else ()
            qemu.qemu_img(
                *("convert", "-f", "raw", "-O", kind.qemu_format),
                *options,
                str(GRUB),
                str(filling / kind.name),
            )
        try:
            filling.rename(folder)
        except OSError:
            if not _is_ours(folder):
                raise
    finally:
        shutil.rmtree(filling, ignore_errors=True)
    return folder


def _is_ours(folder: Path) -> bool:
    """True when the folder is there and nobody else could have put files into it."""
    try:
        facts = folder.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise AssertionError(f"{folder} belongs to somebody else; remove it and try again")
    return True
