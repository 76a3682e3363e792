"""Catalogs that look like those of clouds: a few large projects and many small ones, most images
private, many snapshots, some names and tags that everybody uses, and tombstones.

Always the same for the same arguments.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator

from transom.model.image import Image, Location, Status, Visibility
from transom.model.member import Member, MemberStatus

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
NAMES = ("ubuntu-22.04", "ubuntu-24.04", "debian-12", "cirros", "fedora-41", "rocky-9", None)
TAGS = ("golden", "ci", "release", "nightly", "gpu", "arm", "lts", "team-a", "team-b", "old")
DISTROS = ("ubuntu", "debian", "fedora", "rocky", "alpine", "arch", "windows", "freebsd")
_STATUSES = (
    (Status.ACTIVE,) * 91
    + (Status.QUEUED,) * 4
    + (Status.SAVING, Status.IMPORTING)
    + (Status.DEACTIVATED,) * 1
    + (Status.DELETED,) * 2
)
_VISIBILITIES = (
    (Visibility.PRIVATE,) * 10
    + (Visibility.SHARED,) * 6
    + (Visibility.PUBLIC,) * 3
    + (Visibility.COMMUNITY,)
)
_DISK_FORMATS = ("qcow2",) * 14 + ("raw",) * 4 + ("iso", "vmdk")


def project(number: int) -> str:
    """The id of a project; number 0 owns most."""
    return uuid.UUID(int=0x7A0000000000000000000000000000 + number).hex


def images(count: int, *, seed: int = 1) -> Iterator[Image]:
    """So many images, oldest first, about fifty to a project."""
    chance = random.Random(seed)
    projects = max(3, count // 50)
    for number in range(count):
        created = START + dt.timedelta(seconds=37 * number, microseconds=chance.randrange(10**6))
        # Every tenth image belongs to one of a handful of large projects.
        owner = project(
            chance.randrange(5) if chance.random() < 0.1 else chance.randrange(projects)
        )
        status = chance.choice(_STATUSES)
        has_data = status in (Status.ACTIVE, Status.DEACTIVATED)
        common = chance.random() < 0.2
        image_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        size = chance.randrange(10**6, 10**10) if has_data else None
        yield Image(
            id=image_id,
            created_at=created,
            updated_at=created + dt.timedelta(seconds=chance.randrange(86400)),
            deleted_at=created + dt.timedelta(days=9) if status is Status.DELETED else None,
            name=chance.choice(NAMES) if common else f"image-{chance.randrange(count)}",
            status=status,
            visibility=chance.choice(_VISIBILITIES),
            owner=owner,
            disk_format=chance.choice(_DISK_FORMATS),
            container_format="bare",
            size=size,
            virtual_size=None if size is None else size * 2,
            checksum=f"{chance.getrandbits(128):032x}" if has_data else None,
            os_hash_algo="sha512" if has_data else None,
            os_hash_value=f"{chance.getrandbits(512):0128x}" if has_data else None,
            os_hidden=chance.random() < 0.05,
            protected=chance.random() < 0.01,
            min_disk=chance.randrange(20),
            min_ram=chance.choice((0, 0, 512, 1024)),
            properties=_properties(chance, number),
            tags=tuple(chance.sample(TAGS, chance.choice((0, 0, 1, 1, 2, 3)))),
            locations=(Location(store="main", key=image_id, url=f"file:///images/{image_id}"),)
            if has_data
            else (),
        )


def _properties(chance: random.Random, number: int) -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "os_distro": chance.choice(DISTROS),
        "architecture": "x86_64" if chance.random() < 0.9 else "aarch64",
    }
    if chance.random() < 0.4:
        found |= {
            "image_type": "snapshot",
            "instance_uuid": str(uuid.UUID(int=chance.getrandbits(128))),
            "base_image_ref": str(uuid.UUID(int=chance.randrange(1000))),
        }
    if chance.random() < 0.5:
        found["build"] = str(number)
    return found


def members(of: Iterator[Image] | list[Image], *, seed: int = 2) -> Iterator[Member]:
    """Members of every tenth shared image."""
    chance = random.Random(seed)
    projects = 0
    for image in of:
        projects += 1
        if image.visibility is not Visibility.SHARED or chance.random() > 0.1:
            continue
        for number in chance.sample(range(max(5, projects // 50)), chance.randrange(1, 4)):
            yield Member(
                image_id=image.id,
                member_id=project(number),
                status=chance.choice(list(MemberStatus)),
                created_at=image.created_at,
                updated_at=image.updated_at,
            )
