"""Stores that speak Google Cloud Storage's API to the real radosgw of `tests.support.ceph`.

Google's XML API and S3's are one dialect: objects, ranges, lists and uploads in parts are the same
requests. They differ in what a *gate* here translates: it lets those pass who show the right bearer
token, and hands on Google's precondition for new objects as S3's. Behind it a bucket is open to all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import re
import threading
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support import ceph
from transom.settings import StoreSettings

TOKEN = uuid.uuid4().hex


@functools.cache
def url() -> str:
    """The address of the gate, which ends with this process."""
    inner = urlsplit(ceph.gateway().url)
    assert inner.hostname is not None
    opened: list[int] = []
    is_open = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(
            functools.partial(_pass_on, str(inner.hostname), inner.port or 80), "127.0.0.1", 0
        )
        opened.append(server.sockets[0].getsockname()[1])
        is_open.set()
        await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    is_open.wait(10)
    return f"http://127.0.0.1:{opened[0]}"


@functools.cache
def bucket() -> str:
    """The bucket that the tests of this process share, each with a prefix of its own."""
    name = ceph.gateway().bucket()
    everyone = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
    }
    ceph.gateway().client().put_bucket_policy(
        Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everyone]})
    )
    return name


def options(**more: Any) -> dict[str, Any]:
    """Keys of `[stores.NAME]` that lead to the bucket; `more` replaces and adds."""
    return {
        "endpoint_url": url(),
        "token": TOKEN,
        "bucket": more["bucket"] if "bucket" in more else bucket(),
        "part_size_bytes": 5 * 1024 * 1024,
    } | more


def settings(**more: Any) -> StoreSettings:
    """The settings of a store in the bucket."""
    return StoreSettings(driver="gcs", options=options(**more))


def in_folder(folder: Path) -> StoreSettings:
    """The settings of a store that sees the objects of one temporary folder alone."""
    return settings(prefix=hashlib.sha256(str(folder).encode()).hexdigest()[:16])


async def _pass_on(
    host: str, port: int, client: asyncio.StreamReader, answers: asyncio.StreamWriter
) -> None:
    server, requests = await asyncio.open_connection(host, port)
    back = asyncio.create_task(_copy(server, answers))
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while True:
            head = (await client.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"\r\ncontent-length: *([0-9]+)", head, flags=re.IGNORECASE)
            left = int(length[1]) if length else 0
            is_known = f"\r\nauthorization: bearer {TOKEN}\r\n" in head.lower()
            if not is_known:
                back.cancel()
                # Whoever closes with something unread resets the connection, and the answer with it.
                await client.readexactly(left)
                answers.write(
                    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                await answers.drain()
                break
            head = re.sub(r"\r\nauthorization:[^\r]*", "", head, flags=re.IGNORECASE)
            head = re.sub(
                r"\r\nx-goog-if-generation-match: 0",
                "\r\nif-none-match: *",
                head,
                flags=re.IGNORECASE,
            )
            requests.write(head.encode("latin-1"))
            while left and (data := await client.read(min(left, 256 * 1024))):
                requests.write(data)
                await requests.drain()
                left -= len(data)
    requests.close()
    with contextlib.suppress(asyncio.CancelledError):
        await back
    answers.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(256 * 1024):
            target.write(data)
            await target.drain()
