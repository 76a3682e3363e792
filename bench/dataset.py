"""The images that every side holds: the same rows for Transom, Glance and the limit programs.

A catalog's rows follow from its size alone, so every side and every run compares like with like.
The proportions follow what clouds hold: a hundred projects, few
public images, most of them private or shared, five to eight properties and two or three tags each.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

VERSION = 1
"""Grows when the rows change, so that no stale seeded database is reused."""

PROJECTS = 100
_START = dt.datetime(2022, 1, 1, tzinfo=dt.UTC)
_DISTROS = (
    "almalinux", "alpine", "arch", "centos", "cirros", "debian", "fedora", "opensuse", "rhel",
    "rocky", "sles", "ubuntu",
)  # fmt: skip
_STATUSES = ("active",) * 96 + ("queued",) * 2 + ("deactivated",) * 2
_VISIBILITIES = ("public",) * 5 + ("community",) * 2 + ("shared",) * 40 + ("private",) * 53
_DISK_FORMATS = ("qcow2",) * 60 + ("raw",) * 25 + ("iso",) * 8 + ("vmdk",) * 7
_TAGS = tuple(f"tag-{number:03}" for number in range(200))


@dataclass(frozen=True, slots=True)
class Row:
    """One image, in plain values; times are aware UTC with whole seconds, sizes are bytes."""

    id: str
    name: str
    status: str
    visibility: str
    owner: str
    disk_format: str
    container_format: str
    size: int | None
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    os_hidden: bool
    protected: bool
    min_disk: int
    min_ram: int
    created_at: dt.datetime
    updated_at: dt.datetime
    properties: dict[str, str]
    tags: tuple[str, ...]
    members: tuple[str, ...]
    """Projects that accepted this shared image."""


def project_id(number: int) -> str:
    """The id of project `number` (0 to PROJECTS - 1)."""
    return hashlib.md5(f"project-{number}".encode(), usedforsecurity=False).hexdigest()


def image_id(number: int) -> str:
    """The id of image `number`."""
    digest = hashlib.md5(f"image-{number}".encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def image_name(number: int, count: int) -> str:
    """The name of image `number` among `count`: about forty images share each name."""
    family = (number * 2654435761) % max(1, count // 40)
    return f"{_DISTROS[family % len(_DISTROS)]}-server-{family:06}"


def rows(count: int, *, first_project_id: str | None = None) -> Iterator[Row]:
    """`count` images, oldest first. `first_project_id` stands in for project 0, for a side whose
    projects choose their own ids."""
    projects = [project_id(number) for number in range(PROJECTS)]
    if first_project_id is not None:
        projects[0] = first_project_id
    chance = random.Random(count).random
    for number in range(count):
        yield _row(number, count, projects, chance)


def _row(number: int, count: int, projects: list[str], chance: Callable[[], float]) -> Row:
    moment = _START + dt.timedelta(seconds=number * 60 + int(chance() * 60))
    status = _STATUSES[int(chance() * 100)]
    visibility = _VISIBILITIES[int(chance() * 100)]
    owner_number = int(chance() * PROJECTS)
    has_data = status != "queued"
    size = (1 << 20) + int(chance() * (1 << 34)) if has_data else None
    seed = b"data-%d" % number
    members: tuple[str, ...] = ()
    if visibility == "shared" and chance() < 0.1:
        members = (projects[(owner_number + 1 + int(chance() * (PROJECTS - 1))) % PROJECTS],)
    return Row(
        id=image_id(number),
        name=image_name(number, count),
        status=status,
        visibility=visibility,
        owner=projects[owner_number],
        disk_format=_DISK_FORMATS[int(chance() * 100)],
        container_format="bare",
        size=size,
        virtual_size=size * 2 if size is not None else None,
        checksum=hashlib.md5(seed, usedforsecurity=False).hexdigest() if has_data else None,
        os_hash_algo="sha512" if has_data else None,
        os_hash_value=hashlib.sha512(seed).hexdigest() if has_data else None,
        os_hidden=chance() < 0.02,
        protected=chance() < 0.05,
        min_disk=(0, 0, 10, 20)[int(chance() * 4)],
        min_ram=(0, 0, 512, 2048)[int(chance() * 4)],
        created_at=moment,
        updated_at=moment + dt.timedelta(seconds=int(chance() * 86400)),
        properties=_properties(number, chance),
        tags=_tags(chance),
        members=members,
    )


def _tags(chance: Callable[[], float]) -> tuple[str, ...]:
    picked = {_TAGS[int(chance() * len(_TAGS))] for _ in range(2 + (chance() < 0.5))}
    return tuple(sorted(picked))


def _properties(number: int, chance: Callable[[], float]) -> dict[str, str]:
    values = {
        "os_distro": _DISTROS[int(chance() * len(_DISTROS))],
        "os_version": f"{5 + int(chance() * 35)}.{int(chance() * 12):02}",
        "architecture": "x86_64" if chance() < 0.85 else "aarch64",
        "hw_disk_bus": ("virtio", "scsi", "sata")[int(chance() * 3)],
        "build_id": f"build-{number:08}",
        "hw_machine_type": "q35",
        "hw_vif_model": "virtio",
        "description": f"Nightly image number {number}, built from the pipeline's main branch",
    }
    for name in ("description", "hw_vif_model", "hw_machine_type")[: int(chance() * 4)]:
        del values[name]
    return values


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of list request: a title for the table and the paths a load generator rotates."""

    key: str
    title: str
    paths: tuple[str, ...]
    as_project: bool = False
    """Asked by a member of project 0; else by an administrator."""


def questions(count: int) -> tuple[Question, ...]:
    """The list requests that are measured in a catalog of `count` images; each page holds 25."""
    chance = random.Random(count)
    some = [chance.randrange(count) for _ in range(200)]
    markers = [image_id(number) for number in some if number > 100]
    return (
        Question("default", "newest 25", ("/v2/images",)),
        Question(
            "visible", "status and visibility", ("/v2/images?status=active&visibility=public",)
        ),
        Question("name", "name", tuple(f"/v2/images?name={image_name(n, count)}" for n in some)),
        Question("tag", "tag", tuple(f"/v2/images?tag={tag}" for tag in _TAGS)),
        Question(
            "property",
            "property, 1 in 12 has it",
            tuple(f"/v2/images?os_distro={distro}" for distro in _DISTROS),
        ),
        Question(
            "rare",
            "property, one image has it",
            tuple(f"/v2/images?build_id=build-{number:08}" for number in some),
        ),
        Question(
            "page", "a page from the middle", tuple(f"/v2/images?marker={id_}" for id_ in markers)
        ),
        Question("project", "newest 25, project user", ("/v2/images",), as_project=True),
    )


def show_paths(count: int) -> tuple[str, ...]:
    """Paths of images all over a catalog of `count`."""
    chance = random.Random(count + 1)
    return tuple(f"/v2/images/{image_id(chance.randrange(count))}" for _ in range(1000))


NEW_IMAGE = {
    "name": "debian-server-created",
    "disk_format": "raw",
    "container_format": "bare",
    "visibility": "private",
    "os_distro": "debian",
    "os_version": "12",
    "architecture": "x86_64",
    "hw_disk_bus": "virtio",
    "hw_vif_model": "virtio",
    "tags": ["tag-001", "tag-002"],
}
"""What the create measurement posts."""
