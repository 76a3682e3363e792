"""`transom` that lies now and then: python -m tests.support.lying serve …

Keeps none of the promises that the checker of histories watches over: some downloads are torn, some
deletions are forgotten, some records are old, some uploads are acknowledged and lost. Tests run it to see
that clients who write down what they are told find it out.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from tests.support import apart
from transom.catalog.images import Images
from transom.cli.main import main
from transom.stores.drivers.file.reader import FileReader

apart.be_apart()
_turns: dict[str, itertools.count[int]] = {}
EVERY = 3


def now_and_then(lie: str) -> bool:
    """True once in so many times."""
    return next(_turns.setdefault(lie, itertools.count(1))) % EVERY == 0


def wrapped(owner: Any, name: str) -> Callable[[Any], None]:
    """Put something around a method."""

    def put(around: Any) -> None:
        real = getattr(owner, name)

        async def method(*arguments: Any, **options: Any) -> Any:
            return await around(real, *arguments, **options)

        setattr(owner, name, method)

    return put


@wrapped(FileReader, "__anext__")
async def _torn(real: Any, reader: Any) -> Any:
    piece = await real(reader)
    return piece[:-1] + bytes([piece[-1] ^ 1]) if now_and_then("torn") else piece


@wrapped(Images, "delete")
async def _forgotten(real: Any, images: Any, image_id: str, **options: Any) -> Any:
    if now_and_then("forgotten"):
        return await images.get(image_id, seen_by=None)
    return await real(images, image_id, **options)


_seen: dict[str, Any] = {}


@wrapped(Images, "get")
async def _old(real: Any, images: Any, image_id: str, **options: Any) -> Any:
    image = await real(images, image_id, **options)
    first = _seen.setdefault(image_id, image)
    return first if now_and_then("old") else image


@wrapped(Images, "finish_upload")
async def _lost(real: Any, images: Any, image_id: str, **options: Any) -> Any:
    if now_and_then("lost"):
        image = await images.get(image_id, seen_by=None)
        await images.abandon_intake(image_id, options["location"].key)
        return image
    return await real(images, image_id, **options)


if __name__ == "__main__":
    sys.exit(main())
