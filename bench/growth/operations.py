"""What the service asks of its catalog all day long, one operation after the other.

Reads ask for what the data set (`bench.dataset`) holds. Writes make images of a project of their own,
lead them through their lives, and take every row of them away again at the end.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from bench import dataset
from transom.catalog import Catalog
from transom.catalog.schema import metadata
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status, Visibility
from transom.model.limit import BytesLimit, CountLimit
from transom.model.member import Member, MemberStatus
from transom.model.query import ImageQuery
from transom.model.task import Facts, Progress, Staged, Task, TaskType

GUEST = "growth-guest"
ADMIN = Actor(project_id="growth-admin", is_admin=True)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PAGE = 25
KEYS_TOLD = 200
"""How many keys a sweep asks about at once here; really up to 8,191."""

_LIMITS = [BytesLimit(name="bytes", bytes_max=2**60, counts="all")]
_COUNT = CountLimit("images", 10**9)


@dataclass
class World:
    """A catalog of `count` images of the data set, and what is picked from it."""

    catalog: Catalog
    count: int
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    project: str = field(default_factory=lambda: dataset.project_id(1))
    owner: str = "growth-owner"
    image: Image | None = None
    task: Task | None = None
    key: str = ""

    def number(self) -> int:
        """The number of some image."""
        return self.chance.randrange(self.count)

    @property
    def actor(self) -> Actor:
        """A member of a project with a hundredth of all images."""
        return Actor(project_id=self.project)

    @property
    def mine(self) -> Image:
        """The image that the writes are about."""
        assert self.image is not None, "an operation came before its beginning"
        return self.image


Operation = Callable[[World], Awaitable[Any]]


def _list(actor: str = "admin", **query: Any) -> Operation:
    async def ask(world: World) -> Any:
        asked = {key: value(world) if callable(value) else value for key, value in query.items()}
        caller = ADMIN if actor == "admin" else world.actor
        return await world.catalog.images.list(ImageQuery(limit=PAGE, **asked), seen_by=caller)

    return ask


def _by(column: str, direction: Any = "asc") -> Any:
    return ((column, direction), ("created_at", "desc"), ("id", "desc"))


def _marker(world: World) -> str:
    return dataset.image_id(world.number())


READS: dict[str, Operation] = {
    "list newest, administrator": _list(),
    "list newest, project": _list("project"),
    "list status and visibility": _list(equals=(("status", "active"),), visibility="public"),
    "list by name": _list(
        equals=lambda world: (("name", dataset.image_name(world.number(), world.count)),)
    ),
    "list by tag": _list(tags=lambda world: (f"tag-{world.chance.randrange(200):03}",)),
    "list by tag, project": _list(
        "project", tags=lambda world: (f"tag-{world.chance.randrange(200):03}",)
    ),
    "list by property, 1 in 12": _list(properties=(("os_distro", "debian"),)),
    "list by property, one": _list(
        properties=lambda world: (("build_id", f"build-{world.number():08}"),)
    ),
    "list by owner": _list(equals=lambda world: (("owner", world.project),)),
    "list a page from the middle": _list(marker=_marker),
    "list sorted by name": _list(sort=_by("name")),
    "list sorted by name, project": _list("project", sort=_by("name")),
    "list sorted by size": _list(sort=_by("size", "desc")),
    "list sorted by change": _list(sort=_by("updated_at", "desc")),
    "list shared with the project": _list("project", visibility="shared"),
    "show, administrator": lambda world: world.catalog.images.get(
        dataset.image_id(world.number()), seen_by=ADMIN
    ),
    "show, anybody": lambda world: world.catalog.images.get(
        dataset.image_id(world.number()), seen_by=None
    ),
    "members of an image": lambda world: world.catalog.members.list(
        dataset.image_id(world.number())
    ),
    "usage of a project": lambda world: world.catalog.images.usage(world.project),
    "sweep: are keys known": lambda world: world.catalog.inventory.known(
        "main", [dataset.image_id(world.number()) for _ in range(KEYS_TOLD)]
    ),
    "sweep: what is due": lambda world: world.catalog.images.due(100, NOW),
    "sweep: stuck images": lambda world: world.catalog.inventory.stuck(now=NOW),
    "sweep: intakes of the dead": lambda world: world.catalog.intakes.of_dead(["nobody"]),
    "worker: unfinished tasks": lambda world: world.catalog.tasks.unfinished(),
    "doctor: a page of rows": lambda world: world.catalog.consistency.flaws(
        after=dataset.image_id(world.number()), limit=100
    ),
}
"""Operations that change nothing."""


# --- the life of an image --------------------------------------------------------------------------


def _fresh(world: World) -> Image:
    moment = dt.datetime.now(dt.UTC)
    return Image(
        id=str(uuid.UUID(int=world.chance.getrandbits(128), version=4)),
        created_at=moment,
        updated_at=moment,
        owner=world.owner,
        name="growth",
        visibility=Visibility.SHARED,
        disk_format="raw",
        container_format="bare",
        tags=("tag-001", "tag-002"),
        properties={"os_distro": "debian", "architecture": "x86_64", "build_id": "growth"},
    )


async def _create(world: World) -> None:
    world.image = _fresh(world)
    await world.catalog.images.create(world.image)


async def _create_limited(world: World) -> None:
    world.image = _fresh(world)
    await world.catalog.images.create(world.image, limit=_COUNT)


async def _patch(world: World) -> None:
    before = world.mine
    after = _changed(before, properties={**before.properties, "os_distro": "fedora"})
    world.image = await world.catalog.images.replace(before, after)


def _changed(image: Image, **changes: Any) -> Image:
    from msgspec.structs import replace

    return replace(image, **changes)


async def _begin(world: World) -> None:
    world.key = uuid.uuid4().hex
    world.image = await world.catalog.images.begin_intake(
        world.mine.id, kind="saving", store="main", key=world.key, token="", process_id="growth"
    )


async def _reserve(world: World) -> None:
    await world.catalog.images.reserve(
        world.mine.id, world.key, 2**20, 2**30, project=world.owner, limits=_LIMITS
    )


async def _reserve_in_large(world: World) -> None:
    """The project of the image has a hundredth of all images, whose bytes are summed up."""
    await world.catalog.images.reserve(
        world.mine.id, world.key, 2**20, 2**30, project=world.project, limits=_LIMITS
    )


async def _finish(world: World) -> None:
    world.image = await world.catalog.images.finish_upload(
        world.mine.id,
        location=_location(world.key),
        size=2**30,
        virtual_size=None,
        checksum="0" * 32,
        os_hash_algo="sha512",
        os_hash_value="0" * 128,
        now=dt.datetime.now(dt.UTC),
    )


def _location(key: str) -> Location:
    return Location(store="main", key=key, url=f"file:///growth/{key}")


async def _share(world: World) -> None:
    moment = dt.datetime.now(dt.UTC)
    member = Member(image_id=world.mine.id, member_id=GUEST, created_at=moment, updated_at=moment)
    await world.catalog.members.add(member, 128)


async def _accept(world: World) -> None:
    await world.catalog.members.set_status(
        world.mine.id, GUEST, MemberStatus.ACCEPTED, now=dt.datetime.now(dt.UTC)
    )


async def _unshare(world: World) -> None:
    await world.catalog.members.remove(world.mine.id, GUEST)


async def _delete(world: World) -> None:
    await world.catalog.images.delete(world.mine.id, now=dt.datetime.now(dt.UTC), delayed=False)


async def _removed(world: World) -> None:
    await world.catalog.images.data_removed(world.mine.id, world.key)


async def _stage(world: World) -> None:
    """The data of a second image comes into staging."""
    world.image = _fresh(world)
    await world.catalog.images.create(world.image)
    world.key = uuid.uuid4().hex
    await world.catalog.images.begin_intake(
        world.mine.id, kind="uploading", store="main", key=world.key, token="", process_id="growth"
    )


async def _staged(world: World) -> None:
    world.image = await world.catalog.tasks.finish_staging(
        Staged(
            image_id=world.mine.id,
            store="main",
            key=world.key,
            size_bytes=2**30,
            staged_at=dt.datetime.now(dt.UTC),
        )
    )


async def _import(world: World) -> None:
    moment = dt.datetime.now(dt.UTC)
    world.task = Task(
        id=str(uuid.uuid4()),
        type=TaskType.API_IMAGE_IMPORT,
        owner=world.owner,
        image_id=world.mine.id,
        created_at=moment,
        updated_at=moment,
    )
    world.image = await world.catalog.tasks.begin_import(
        world.task, stores=["main"], from_status=Status.UPLOADING
    )


async def _claim(world: World) -> None:
    assert world.task is not None
    world.task = await world.catalog.tasks.claim(world.task.id, "growth", dt.datetime.now(dt.UTC))


async def _report(world: World) -> None:
    assert world.task is not None
    await world.catalog.tasks.report(
        world.task, Progress(phase="fetch", done_bytes=1), "", dt.datetime.now(dt.UTC)
    )


async def _place(world: World) -> None:
    assert world.task is not None
    world.key, now = uuid.uuid4().hex, dt.datetime.now(dt.UTC)
    await world.catalog.tasks.remember_object(world.task, "main", world.key, token="", now=now)
    world.image = await world.catalog.tasks.place(
        world.task,
        world.mine.id,
        _location(world.key),
        Facts(size=2**30, checksum="0" * 32, os_hash_algo="sha512", os_hash_value="0" * 128),
        changes={},
        activates=True,
        limits=[],
        now=now,
    )


async def _succeed(world: World) -> None:
    assert world.task is not None
    now = dt.datetime.now(dt.UTC)
    await world.catalog.tasks.succeed(
        world.task,
        world.mine.id,
        result={},
        message="",
        now=now,
        expires_at=now + dt.timedelta(hours=1),
    )


async def _beat(world: World) -> None:
    await world.catalog.processes.beat("growth")


WRITES: dict[str, Operation] = {
    "create": _create,
    "create within a limit": _create_limited,
    "patch": _patch,
    "upload: begin": _begin,
    "upload: reserve": _reserve,
    "upload: reserve, project of a hundredth": _reserve_in_large,
    "upload: finish": _finish,
    "member: add": _share,
    "member: accept": _accept,
    "member: remove": _unshare,
    "delete": _delete,
    "delete: data is gone": _removed,
    "staging: create and begin": _stage,
    "staging: finish": _staged,
    "import: begin": _import,
    "import: claim": _claim,
    "import: report": _report,
    "import: place": _place,
    "import: succeed": _succeed,
    "process: renew the lease": _beat,
}
"""Operations that lead an image through its life, in this order."""


def clear(catalog: Catalog, owner: str) -> None:
    """Take away every row that the writes made."""
    images = metadata.tables["images"]
    mine = sa.select(images.c.id).where(images.c.owner == owner)

    def work(connection: Connection) -> None:
        ids = list(connection.execute(mine).scalars())
        for name in ("task_objects", "tasks"):
            table = metadata.tables[name]
            owned = (
                table.c.owner == owner
                if name == "tasks"
                else table.c.task_id.in_(
                    sa.select(metadata.tables["tasks"].c.id).where(
                        metadata.tables["tasks"].c.owner == owner
                    )
                )
            )
            connection.execute(sa.delete(table).where(owned))
        for table in reversed(metadata.sorted_tables):
            if "image_id" in table.c and table.name != "tasks":
                connection.execute(sa.delete(table).where(table.c.image_id.in_(ids)))
        connection.execute(sa.delete(images).where(images.c.id.in_(ids)))
        leases = metadata.tables["processes"]
        connection.execute(sa.delete(leases).where(leases.c.process_id == "growth"))

    catalog.engine.write_now(work)
