"""Imports over HTTP: a client's calls around an import."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.server import Client, Config, told

OCTETS = {"Content-Type": "application/octet-stream"}
ENDED = ("success", "failure")
FROM_LOOPBACK: Config = {
    "imports": {
        "methods": ["glance-direct", "web-download", "copy-image", "glance-download"],
        "allowed_hosts": ["127.0.0.1"],
        "allowed_ports": [],
        "retries_max": 1,
        "retry_seconds": 0.01,
        "connect_timeout_seconds": 2,
        "read_timeout_seconds": 5,
    }
}
"""All methods are on, and the tests' own web server may be read from."""


def new_image(client: Client, **attributes: Any) -> str:
    """A queued image, raw and bare unless said otherwise; None leaves an attribute out."""
    given = {"disk_format": "raw", "container_format": "bare", **attributes}
    image_id: str = client.create(**{k: v for k, v in given.items() if v is not None})["id"]
    return image_id


def active_image(client: Client, data: bytes, store: str | None = None, **attributes: Any) -> str:
    """An active image."""
    image_id = new_image(client, **attributes)
    client.upload(image_id, data, {"X-Image-Meta-Store": store} if store else None)
    return image_id


def stage(
    client: Client, image_id: str, data: Any = b"staged data", **headers: str
) -> httpx.Response:
    """`PUT …/stage`; underscores in the names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(f"/v2/images/{image_id}/stage", content=data, headers=OCTETS | named)


def start(
    client: Client,
    image_id: str,
    method: str | dict[str, Any],
    header_store: str | None = None,
    **body: Any,
) -> httpx.Response:
    """`POST …/import`, however it ends."""
    named = {"name": method} if isinstance(method, str) else method
    headers = {} if header_store is None else {"X-Image-Meta-Store": header_store}
    return client.post(
        f"/v2/images/{image_id}/import", json={"method": named, **body}, headers=headers
    )


def download(url: str, **arguments: Any) -> dict[str, Any]:
    """The method web-download of a URL."""
    return {"name": "web-download", "uri": url, **arguments}


def tasks_of(client: Client, image_id: str) -> list[dict[str, Any]]:
    """The tasks of an image, newest first."""
    answer = client.get(f"/v2/images/{image_id}/tasks")
    assert answer.status_code == 200, told(answer)
    tasks: list[dict[str, Any]] = answer.json()["tasks"]
    return tasks


def ended(client: Client, image_id: str, seconds: float = 30) -> dict[str, Any]:
    """The newest task of an image, as soon as it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        task = tasks_of(client, image_id)[0]
        if task["status"] in ENDED:
            return task
        assert time.monotonic() < deadline, f"not ended after {seconds} s: {task}"
        time.sleep(0.03)


def imports(
    client: Client, image_id: str, method: str | dict[str, Any], **how: Any
) -> dict[str, Any]:
    """Import and wait; gives the image. Fails the test unless the task succeeds."""
    answer = start(client, image_id, method, **how)
    assert answer.status_code == 202, told(answer)
    assert answer.content == b""
    task = ended(client, image_id)
    assert task["status"] == "success", task
    return client.show(image_id)


def fails(
    client: Client, image_id: str, method: str | dict[str, Any], **how: Any
) -> dict[str, Any]:
    """Import and wait; gives the task. Fails the test unless the task fails."""
    answer = start(client, image_id, method, **how)
    assert answer.status_code == 202, told(answer)
    task = ended(client, image_id)
    assert task["status"] == "failure", task
    return task


def content_of(client: Client, image_id: str, **query: Any) -> bytes:
    """The data of an image."""
    answer = client.get(f"/v2/images/{image_id}/file", params=query)
    assert answer.status_code == 200, told(answer)
    return answer.content


def events(client: Client, image_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events of an image: their kind and data, until the stream ends."""
    with client.http.stream("GET", f"/v2/images/{image_id}/events", timeout=30) as answer:
        assert answer.status_code == 200, answer.status_code
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)
