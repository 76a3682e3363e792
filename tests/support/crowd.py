"""Clients that work on the same images at the same time, and write down what they are told.

Each client is a thread with a random sequence of calls of its own, out of one seed. What they did
and were told becomes a History, which tests/support/history.py judges. Data is never kept: each
piece is named by a seed and a length, and made again where it is compared.
"""

from __future__ import annotations

import functools
import hashlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from tests.support.history import DONE, REFUSED, UNKNOWN, Answer, Call
from tests.support.web import File, Web

KIB = 1 << 10
MIB = 1 << 20
STREAM = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
SERVED_BY = "X-Served-By"
"""The header in which the proxy tells which replicas it asked: two, when it asked again."""
MEMBERS = ("first-project", "second-project")


class Data(NamedTuple):
    """Some bytes, by the way to make them."""

    seed: int
    size_bytes: int

    @property
    def bytes(self) -> bytes:
        """The bytes."""
        return _bytes(self.seed, self.size_bytes)

    @property
    def digest(self) -> str:
        """Their SHA-512."""
        return _digest(self.seed, self.size_bytes)

    @property
    def facts(self) -> dict[str, Any]:
        """What the history notes of them."""
        return {"digest": self.digest, "size_bytes": self.size_bytes}


@functools.lru_cache(maxsize=24)
def _bytes(seed: int, size_bytes: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


@functools.lru_cache(maxsize=4096)
def _digest(seed: int, size_bytes: int) -> str:
    return hashlib.sha512(_bytes(seed, size_bytes)).hexdigest()


class Source(Web):
    """A web server that has every Data at a path of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.files = _Generated()

    def url_of(self, data: Data) -> str:
        """Where the data is."""
        return f"{self.url}/{data.seed}/{data.size_bytes}"


class _Generated(dict[str, File]):
    def get(self, path: str, default: Any = None) -> Any:
        _, seed, size_bytes = path.split("/")
        # Some come slowly, so that kills find them on their way.
        rate_bytes = 6 * MIB if int(seed) % 2 else 0
        return File(_bytes(int(seed), int(size_bytes)), etag=f'"{seed}"', rate_bytes=rate_bytes)


@dataclass
class Known:
    """What the clients together know of one image."""

    id: str
    sent: dict[str, Data] = field(default_factory=dict)
    """Data that may be the image's, by digest."""
    status: str = "queued"
    """What was told of it last; it may be another by now."""


class Crowd:
    """The clients. `start`, let things happen, `stop`; then `calls` is the history."""

    def __init__(
        self,
        url: str,
        token: str,
        source: Source,
        *,
        seed: int,
        clients: int = 6,
        second_store: str = "",
        images_max: int = 24,
        pause_seconds: float = 0.02,
    ) -> None:
        """`url` is the proxy's. With `second_store` images are copied there too."""
        self.url = url
        self.token = token
        self.source = source
        self.seed = seed
        self.second_store = second_store
        self.images_max = images_max
        self.pause_seconds = pause_seconds
        self.calls: list[Call] = []
        self.images: dict[str, Known] = {}
        self.broken: list[BaseException] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each client after its present call. Raises what broke a client."""
        self._ended.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a call does not end"
        if self.broken:
            raise self.broken[0]

    def note(self, call: Call) -> None:
        """Write a call down."""
        with self._lock:
            self.calls.append(call)

    def pick(self, choose: random.Random, status: str = "") -> Known | None:
        """Some image, mostly one that was last told to be in this state."""
        with self._lock:
            images = list(self.images.values())
        fitting = [image for image in images if image.status == status]
        if fitting and choose.random() < 0.9:
            images = fitting
        return choose.choice(images) if images else None

    def add(self, image: Known) -> None:
        """An image that others may use now."""
        with self._lock:
            self.images[image.id] = image

    def forget(self, image: Known) -> None:
        """An image that is gone."""
        with self._lock:
            self.images.pop(image.id, None)

    def client(self, name: str) -> Caller:
        """One more client, for the test itself."""
        return Caller(self, name, random.Random(f"{self.seed} {name}"))

    def _work(self, number: int) -> None:
        try:
            with self.client(f"client{number}") as caller:
                while not self._ended.is_set():
                    caller.act()
                    time.sleep(caller.choose.uniform(0, 2 * self.pause_seconds))
        except BaseException as error:  # noqa: BLE001 - told by stop()
            self.broken.append(error)


class Caller:
    """One client: one connection at a time, one call after the other."""

    def __init__(self, crowd: Crowd, name: str, choose: random.Random) -> None:
        self.crowd = crowd
        self.name = name
        self.choose = choose
        self.http = httpx.Client(
            base_url=crowd.url,
            headers={"X-Auth-Token": crowd.token},
            timeout=60,
            trust_env=False,
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    # --- what may come next -------------------------------------------------------------------

    def act(self) -> None:
        """Do something at random."""
        is_room = len(self.crowd.images) < self.crowd.images_max
        deeds: list[tuple[int, Callable[[Known], object], str]] = [
            (12 if is_room else 0, lambda _: self.create(), ""),
            (8, self.show, ""),
            (4, lambda _: self.list(), ""),
            (9, self.upload, "queued"),
            (5, self.stage_and_import, "queued"),
            (5, self.fetch, "queued"),
            (5, self.download, "active"),
            (5, self.read_a_part, "active"),
            (5, self.update, ""),
            (2, self.share, ""),
            (2, self.unshare, ""),
            (3, self.members, ""),
            (6 if is_room else 12, self.delete, ""),
        ]
        if self.crowd.second_store:
            deeds.append((4, self.copy, "active"))
        weights = [weight for weight, _, _ in deeds]
        ((_, deed, status),) = self.choose.choices(deeds, weights)
        image = self.crowd.pick(self.choose, status)
        if image is None:
            self.create()
        else:
            deed(image)

    def some_data(self) -> Data:
        """Mostly small, sometimes longer than one part of a multipart upload."""
        kind = self.choose.random()
        if kind < 0.5:
            size_bytes = self.choose.randint(1, 8 * KIB)
        elif kind < 0.85:
            size_bytes = self.choose.randint(8 * KIB, 600 * KIB)
        else:
            size_bytes = self.choose.randint(5 * MIB, 9 * MIB)
        return Data(self.choose.getrandbits(48), size_bytes)

    # --- calls ----------------------------------------------------------------------------------

    def create(self) -> Known | None:
        """A new image, with an id of the client's choice: it is known even if the answer is lost."""
        image = Known(str(uuid.UUID(int=self.choose.getrandbits(128), version=4)))
        body = {
            "id": image.id,
            "name": f"of {self.name}",
            "disk_format": "raw",
            "container_format": "bare",
        }
        call = self.ask("create", image.id, "POST", "/v2/images", json=body)
        if call.answer == REFUSED:
            return None
        self.crowd.add(image)
        return image

    def show(self, image: Known) -> Call:
        """The image's record."""
        call = self.ask(
            "show",
            image.id,
            "GET",
            f"/v2/images/{image.id}",
            read=lambda answer: facts_of(answer.json()),
        )
        image.status = call.facts.get("status", image.status)
        if call.status == 404:
            self.crowd.forget(image)
        return call

    def list(self) -> Call:
        """All images, page after page; one call in the history, from the first to the last page."""
        begun, images, path = (
            time.monotonic(),
            {},
            "/v2/images?limit=100&sort=created_at:asc,id:asc",
        )
        last: Call | None = None
        while path:
            at = path
            last = self.ask("page", "", "GET", at, read=lambda answer: {"page": answer.json()})
            if last.answer != DONE:
                break
            page = last.facts["page"]
            for each in page["images"]:
                images[each["id"]] = facts_of(each)
                known = self.crowd.images.get(each["id"])
                if known is not None:
                    known.status = each["status"]
            path = page.get("next", "")
        assert last is not None
        call = Call(
            client=self.name,
            verb="list",
            image="",
            begun=begun,
            ended=time.monotonic(),
            answer=last.answer,
            status=last.status,
            facts={"images": images},
        )
        self.crowd.note(call)
        return call

    def upload(self, image: Known) -> Call:
        """Data, straight into the store."""
        return self._send("upload", image, f"/v2/images/{image.id}/file", self.some_data())

    def stage_and_import(self, image: Known) -> None:
        """Data into staging, and from there into one store or both."""
        data = self.some_data()
        staged = self._send("stage", image, f"/v2/images/{image.id}/stage", data)
        if staged.answer == REFUSED:
            return
        self.ask(
            "import",
            image.id,
            "POST",
            f"/v2/images/{image.id}/import",
            json={"method": {"name": "glance-direct"}, **self._stores()},
        )

    def fetch(self, image: Known) -> Call:
        """Data from a URL."""
        data = self.some_data()
        image.sent[data.digest] = data
        image.status = "importing"
        method = {"name": "web-download", "uri": self.crowd.source.url_of(data)}
        return self.ask(
            "fetch",
            image.id,
            "POST",
            f"/v2/images/{image.id}/import",
            facts=data.facts,
            json={"method": method, **self._stores()},
        )

    def copy(self, image: Known) -> Call:
        """Have the image copied to the second store."""
        return self.ask(
            "copy",
            image.id,
            "POST",
            f"/v2/images/{image.id}/import",
            json={"method": {"name": "copy-image"}, "stores": [self.crowd.second_store]},
        )

    def download(self, image: Known) -> Call:
        """All of the data."""
        return self._read(image, None)

    def read_a_part(self, image: Known) -> Call:
        """A range of the data."""
        sizes = [data.size_bytes for data in image.sent.values()] or [1]
        first = self.choose.randrange(self.choose.choice(sizes))
        return self._read(image, (first, first + self.choose.randrange(1, 300 * KIB)))

    def update(self, image: Known) -> Call:
        """Write a value that nobody wrote before."""
        mark = f"{self.name}-{self.choose.getrandbits(40):x}"
        return self.ask(
            "update",
            image.id,
            "PATCH",
            f"/v2/images/{image.id}",
            facts={"mark": mark},
            json=[{"op": "add", "path": "/mark", "value": mark}],
            headers=PATCH,
        )

    def share(self, image: Known) -> Call:
        """Let a project in."""
        member = self.choose.choice(MEMBERS)
        return self.ask(
            "share",
            image.id,
            "POST",
            f"/v2/images/{image.id}/members",
            facts={"member": member},
            json={"member": member},
        )

    def unshare(self, image: Known) -> Call:
        """Put a project out."""
        member = self.choose.choice(MEMBERS)
        path = f"/v2/images/{image.id}/members/{member}"
        return self.ask("unshare", image.id, "DELETE", path, facts={"member": member})

    def members(self, image: Known) -> Call:
        """Who is let in."""
        return self.ask(
            "members",
            image.id,
            "GET",
            f"/v2/images/{image.id}/members",
            read=lambda answer: {
                "members": tuple(each["member_id"] for each in answer.json()["members"])
            },
        )

    def delete(self, image: Known) -> Call:
        """The end of an image."""
        call = self.ask("delete", image.id, "DELETE", f"/v2/images/{image.id}")
        if call.answer == DONE:
            self.crowd.forget(image)
        return call

    # --- inside -----------------------------------------------------------------------------------

    def ask(
        self,
        verb: str,
        image_id: str,
        method: str,
        path: str,
        *,
        facts: dict[str, Any] | None = None,
        read: Callable[[httpx.Response], dict[str, Any]] | None = None,
        **options: Any,
    ) -> Call:
        """One request, written down."""
        begun = time.monotonic()
        told, status, answer = dict(facts or {}), 0, UNKNOWN
        try:
            response = self.http.request(method, path, **options)
        except httpx.HTTPError as broken:
            told["broke"] = type(broken).__name__
        else:
            status, answer = response.status_code, self._answer(response)
            if answer == DONE and read is not None:
                told |= read(response)
            if answer == UNKNOWN:
                told["said"] = response.text[:200]
        call = Call(
            client=self.name,
            verb=verb,
            image=image_id,
            begun=begun,
            ended=time.monotonic(),
            answer=answer,
            status=status,
            facts=told,
        )
        self.crowd.note(call)
        return call

    def _answer(self, response: httpx.Response) -> Answer:
        if response.status_code < 400:
            return DONE
        asked_twice = "," in response.headers.get(SERVED_BY, "")
        if response.status_code >= 500:
            return UNKNOWN
        # What the first replica did before it died, the second may have refused to do again.
        return UNKNOWN if asked_twice and response.request.method != "GET" else REFUSED

    def _send(self, verb: str, image: Known, path: str, data: Data) -> Call:
        image.sent[data.digest] = data
        image.status = "saving"
        pause = self.choose.choice((0.0, 0.0, 0.05, 0.25))
        content = data.bytes if not pause else _slowly(data.bytes, pause)
        headers = dict(STREAM)
        if pause and self.choose.random() < 0.5:
            headers["Content-Length"] = str(data.size_bytes)
        return self.ask(
            verb, image.id, "PUT", path, facts=data.facts, content=content, headers=headers
        )

    def _stores(self) -> dict[str, Any]:
        is_both = self.crowd.second_store and self.choose.random() < 0.4
        return {"all_stores": True} if is_both else {}

    def _read(self, image: Known, part: tuple[int, int] | None) -> Call:
        """Read as much as comes; what came is compared also where the connection breaks."""
        headers = {"Range": f"bytes={part[0]}-{part[1] - 1}"} if part else {}
        begun, came, status, is_whole = time.monotonic(), bytearray(), 0, False
        with_body = False
        try:
            with self.http.stream(
                "GET", f"/v2/images/{image.id}/file", headers=headers
            ) as response:
                status = response.status_code
                with_body = status in (200, 206)
                for piece in response.iter_raw():
                    came += piece
                is_whole = True
        except httpx.HTTPError:
            pass
        ended = time.monotonic()
        answer: Answer = UNKNOWN
        if is_whole and status < 500:
            answer = DONE if with_body else REFUSED
        facts: dict[str, Any] = {}
        verb = "download"
        if with_body and is_whole and status == 200:
            facts = {"digest": hashlib.sha512(came).hexdigest(), "size_bytes": len(came)}
        elif with_body:
            verb, offset = "read", part[0] if part and status == 206 else 0
            facts = {"fits": self._fits(image, bytes(came), offset, part, is_whole=is_whole)}
        elif status == 416:
            # There is less than was guessed.
            verb = "guess"
        call = Call(
            client=self.name,
            verb=verb,
            image=image.id,
            begun=begun,
            ended=ended,
            answer=answer,
            status=status,
            facts=facts,
        )
        self.crowd.note(call)
        return call

    def _fits(
        self,
        image: Known,
        came: bytes,
        offset: int,
        part: tuple[int, int] | None,
        *,
        is_whole: bool,
    ) -> tuple[str, ...]:
        """The data that have these bytes there: all that was asked for, if the answer is whole."""
        found = []
        for digest, data in list(image.sent.items()):
            end = min(part[1], data.size_bytes) if part and is_whole else offset + len(came)
            if data.bytes[offset:end] == came:
                found.append(digest)
        return tuple(found)


def facts_of(image: dict[str, Any]) -> dict[str, Any]:
    """What the history notes of an image as it is told."""
    return {
        "status": image["status"],
        "digest": image["os_hash_value"],
        "size_bytes": image["size"],
        "mark": image.get("mark"),
        "stores": tuple(sorted(filter(None, (image.get("stores") or "").split(",")))),
    }


def _slowly(data: bytes, pause_seconds: float) -> Iterator[bytes]:
    """The data in some pieces, with pauses."""
    step = max(1, len(data) // 6)
    for begin in range(0, len(data), step):
        yield data[begin : begin + step]
        time.sleep(pause_seconds)


def by_verb(calls: Sequence[Call]) -> str:
    """How many calls of each kind got which answer, in one line each."""
    counts: dict[str, dict[Answer, int]] = {}
    for call in calls:
        kinds = counts.setdefault(call.verb, {DONE: 0, REFUSED: 0, UNKNOWN: 0})
        kinds[call.answer] += 1
    return "\n".join(
        f"  {verb:9} done {each[DONE]:5} refused {each[REFUSED]:5} unknown {each[UNKNOWN]:4}"
        for verb, each in sorted(counts.items())
    )
