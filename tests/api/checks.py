"""What tests of several resources check in the same way."""

from __future__ import annotations

import time
from typing import Any

from tests.support.server import Client, told

EMPTY = {
    "size": None,
    "virtual_size": None,
    "checksum": None,
    "os_hash_algo": None,
    "os_hash_value": None,
    "status": "queued",
}
"""An image without data."""


def queued(client: Client, **attributes: Any) -> str:
    """A new image that is ready for data."""
    made = client.create(**{"disk_format": "raw", "container_format": "bare", **attributes})
    image_id: str = made["id"]
    return image_id


def check_still_queued(client: Client, image_id: str) -> None:
    """The image waits for data as if nothing had come, and takes some now."""
    shown = client.show(image_id)
    assert {name: shown[name] for name in EMPTY} == EMPTY
    assert client.get(f"/v2/images/{image_id}/file").status_code == 204
    assert client.upload(image_id, b"second attempt")["size"] == 14


def wait_for_status(client: Client, image_id: str, status: str, seconds: float = 10) -> None:
    """Wait until the image has the status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = client.show(image_id)["status"]
        if shown == status:
            return
        time.sleep(0.02)
    raise AssertionError(f"{image_id} is {shown}, not {status}, after {seconds} s")


def check_goes_back_to_queued(client: Client, image_id: str, seconds: float = 15) -> None:
    """After its client went away the image waits for data again, at the latest in a while.

    The server may not even have begun with the abandoned request when this is called, so an
    image that is queued now can still pass through `saving`.
    """
    deadline = time.monotonic() + seconds
    while True:
        shown = client.show(image_id)
        if shown["status"] == "queued":
            assert {name: shown[name] for name in EMPTY} == EMPTY
            answer = client.put_data(image_id, b"second attempt")
            if answer.status_code == 204:
                assert client.show(image_id)["size"] == 14
                return
            assert answer.status_code == 409, told(answer)
        assert time.monotonic() < deadline, f"still {shown['status']} after {seconds} s"
        time.sleep(0.05)
