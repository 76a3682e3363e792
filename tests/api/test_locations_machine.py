"""Any sequence of calls on locations ends in the same bytes or an error.

A machine that adds, replaces, removes, uploads, and changes what lies behind the URLs, in any order,
while tasks hash in the background. What is known of an image is the set of contents that it can have:
every answer with bytes of it, whole or a part, narrows that set, and none may ever empty it.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import Running, ServerWith
from tests.support.server import merged, told
from tests.support.web import Web, allowing

SIZE = 200_000
_bytes = random.Random(7).randbytes
CONTENTS = {"a": _bytes(SIZE), "b": _bytes(SIZE), "long": _bytes(SIZE + 1), "small": _bytes(10)}
NAMES = sorted(CONTENTS)
PATHS = ["one", "two", "three"]
CONFIG = merged(
    allowing(hash_tries=1),
    {"imports": {"retries_max": 0, "retry_seconds": 0.0, "read_timeout_seconds": 3}},
)
IMAGES_MAX = 6
BROKEN = frozenset({500, 501, 502})

contents = st.sampled_from(NAMES)
paths = st.sampled_from(PATHS)
claims = st.none() | contents


class Locations(RuleBasedStateMachine):
    """One server, one web, a few images."""

    running: ClassVar[Running]
    web: ClassVar[Web]

    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        self.possible: dict[str, set[str]] = {}
        """Contents that each image can have, by its id."""
        self.changes = 0

    # --- the web ------------------------------------------------------------------------------

    @initialize()
    def fill(self) -> None:
        for path in PATHS:
            self.put(path, "a", has_validator=True)

    @rule(path=paths, content=contents, has_validator=st.booleans())
    def put(self, path: str, content: str, *, has_validator: bool) -> None:
        # An honest server: whatever it shows a validator with has another one when it changes.
        etag = f'"{content}"' if has_validator else None
        self.web.put(path, CONTENTS[content], etag=etag)

    @rule(path=paths, status=st.sampled_from([200, 404, 503]))
    def fail(self, path: str, status: int) -> None:
        self.web[path].status = status

    @rule(path=paths, takes_ranges=st.booleans())
    def refuse_ranges(self, path: str, *, takes_ranges: bool) -> None:
        self.web[path].takes_ranges = takes_ranges

    # --- images -------------------------------------------------------------------------------

    @rule(target=images)
    def create(self) -> Any:
        if len(self.possible) >= IMAGES_MAX:
            return multiple()
        made = self.running.demo.create(disk_format="raw", container_format="bare")
        self.possible[made["id"]] = set(NAMES)
        return made["id"]

    @rule(image=images, content=contents)
    def upload(self, image: str, content: str) -> None:
        answer = self.running.demo.put_data(image, CONTENTS[content])
        self.expect(answer, 204, 404, 409)
        if answer.status_code == 204:
            self.narrow(image, {content})

    @rule(image=images, path=paths, claim=claims)
    def post(self, image: str, path: str, claim: str | None) -> None:
        body: dict[str, Any] = {"url": f"{self.web.url}/{path}"}
        if claim is not None:
            value = hashlib.sha256(CONTENTS[claim]).hexdigest()
            body["validation_data"] = {"os_hash_algo": "sha256", "os_hash_value": value}
        answer = self.running.demo.post(f"/v2/images/{image}/locations", json=body)
        self.expect(answer, 202, 404, 409)

    @rule(image=images, path=paths, claim=claims, position=st.sampled_from(["-", "0", "1"]))
    def add(self, image: str, path: str, claim: str | None, position: str) -> None:
        value = self.location(path, claim)
        self.patch(image, {"op": "add", "path": f"/locations/{position}", "value": value})

    @rule(image=images, wanted=st.lists(paths, min_size=1, max_size=3))
    def replace(self, image: str, wanted: list[str]) -> None:
        value = [self.location(path, None) for path in wanted]
        self.patch(image, {"op": "replace", "path": "/locations", "value": value})

    @rule(image=images)
    def annotate(self, image: str) -> None:
        shown = self.running.demo.get(f"/v2/images/{image}")
        if shown.status_code == 200 and shown.json()["locations"]:
            value = list(reversed(shown.json()["locations"]))
            self.patch(image, {"op": "replace", "path": "/locations", "value": value})

    @rule(image=images, position=st.integers(0, 3))
    def remove(self, image: str, position: int) -> None:
        self.patch(image, {"op": "remove", "path": f"/locations/{position}"})

    @rule(image=images, action=st.sampled_from(["deactivate", "reactivate"]))
    def close(self, image: str, action: str) -> None:
        answer = self.running.demo.post(f"/v2/images/{image}/actions/{action}")
        self.expect(answer, 204, 403, 404)

    # --- reading ------------------------------------------------------------------------------

    @rule(image=images)
    def read(self, image: str) -> None:
        before = self.running.admin.get(f"/v2/images/{image}").json()
        try:
            answer = self.running.admin.get(f"/v2/images/{image}/file")
        except httpx.RemoteProtocolError:
            return
        self.expect(answer, 200, 204, 404, 503)
        if answer.status_code == 200:
            found = {name for name in NAMES if CONTENTS[name] == answer.content}
            assert found, "bytes that nobody ever had"
            self.narrow(image, found)
            if before["os_hash_value"]:
                digest = hashlib.new(before["os_hash_algo"], answer.content).hexdigest()
                assert digest == before["os_hash_value"]

    @rule(image=images, first=st.integers(0, SIZE), length=st.integers(1, 5000))
    def read_part(self, image: str, first: int, length: int) -> None:
        headers = {"Range": f"bytes={first}-{first + length - 1}"}
        try:
            answer = self.running.admin.get(f"/v2/images/{image}/file", headers=headers)
        except httpx.RemoteProtocolError:
            return
        self.expect(answer, 204, 206, 400, 404, 416, 503)
        if answer.status_code == 206 and answer.content:
            part = slice(first, first + len(answer.content))
            self.narrow(image, {n for n in NAMES if CONTENTS[n][part] == answer.content})

    @invariant()
    def the_service_lives(self) -> None:
        assert self.running.server.process is not None
        assert self.running.server.process.poll() is None

    def teardown(self) -> None:
        """Whatever happened, each image is read once more, and goes."""
        for image in self.possible:
            self.read(image)
            self.read_part(image, 5, 3)
            self.running.admin.delete(f"/v2/images/{image}")

    # --- how ----------------------------------------------------------------------------------

    def location(self, path: str, claim: str | None) -> dict[str, Any]:
        self.changes += 1
        value: dict[str, Any] = {
            "url": f"{self.web.url}/{path}",
            "metadata": {"number": str(self.changes)},
        }
        if claim is not None:
            data = CONTENTS[claim]
            value["validation_data"] = {
                "checksum": hashlib.md5(data).hexdigest(),
                "os_hash_algo": "sha512",
                "os_hash_value": hashlib.sha512(data).hexdigest(),
            }
        return value

    def patch(self, image: str, operation: dict[str, Any]) -> None:
        answer = self.running.admin.patch(f"/v2/images/{image}", [operation])
        self.expect(answer, 200, 400, 403, 404, 409, 413, 503)

    def expect(self, answer: httpx.Response, *statuses: int) -> None:
        assert answer.status_code not in BROKEN, told(answer)
        assert answer.status_code in statuses, told(answer)

    def narrow(self, image: str, found: set[str]) -> None:
        left = self.possible[image] & found
        assert left, f"image {image} was {self.possible[image]}, and is now {found}"
        self.possible[image] = left


@pytest.fixture(scope="module")
def web() -> Any:
    with Web() as running:
        yield running


def test_no_sequence_of_calls_changes_the_bytes_of_an_image(
    server_with: ServerWith, web: Web
) -> None:
    Locations.running, Locations.web = server_with(CONFIG), web
    run_state_machine_as_test(
        Locations,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
