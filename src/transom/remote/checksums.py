"""Lists of digests as sha256sum and its like write them, and the digest of one file in them.

Two forms, also mixed: GNU's `<hex>  name` (two blanks, or a blank and `*` for binary mode), and BSD's
`SHA256 (name) = <hex>`. A digest's length tells its algorithm where the line does not. Lines of other
forms (comments, the armour of a signature) are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from transom.errors import ChecksumsUnreadable, ImageTooLarge
from transom.remote.fetch import read_whole
from transom.remote.guard import Guard

SIZE_BYTES_MAX: Final = 1024 * 1024
"""Longest list that is read."""

_BY_DIGITS: Final = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_STRENGTH: Final = ("sha512", "sha384", "sha256", "sha224", "sha1", "md5")
_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128}) [ *](.+)")
_BSD = re.compile(r"(\\?)([A-Za-z0-9-]{3,10}) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,128})")
_ESCAPED = re.compile(r"\\([\\nr])")
_ESCAPES: Final = {"\\": "\\", "n": "\n", "r": "\r"}


class Digest(NamedTuple):
    """An algorithm as hashlib calls it, and a digest in lower-case hexadecimal."""

    algorithm: str
    value: str


async def digest_of(guard: Guard, url: str, name: str) -> Digest | None:
    """The digest of the file `name` in the list at a URL; the strongest where it has several.

    None when the list does not name the file. Raises ChecksumsUnreadable for something else than a
    list, or one of more than 1 MiB, and what `open_download` raises.
    """
    try:
        content = await read_whole(guard, url, size_bytes_max=SIZE_BYTES_MAX)
    except ImageTooLarge:
        raise ChecksumsUnreadable from None
    return find(content.decode("utf-8", "replace"), name)


def find(text: str, name: str) -> Digest | None:
    """The digest of the file `name` in a list, None if the list does not name it.

    A name in the list may have folders before it. Raises ChecksumsUnreadable when no line is one of
    a list.
    """
    entries = list(_entries(text))
    if not entries:
        raise ChecksumsUnreadable
    exact = [digest for listed, digest in entries if listed == name]
    # Lists are often written from above, as `./disk.raw` or `release/disk.raw`.
    found = exact or [digest for listed, digest in entries if listed.rpartition("/")[2] == name]
    if not found:
        return None
    best = min(found, key=lambda digest: _STRENGTH.index(digest.algorithm))
    if any(other.value != best.value for other in found if other.algorithm == best.algorithm):
        raise ChecksumsUnreadable(
            f"The checksum file has several digests for '{name}' that differ; give the URL of a "
            "list with one."
        )
    return best


def _entries(text: str) -> Iterator[tuple[str, Digest]]:
    for line in text.lstrip("\ufeff").split("\n"):
        line = line.rstrip("\r")
        if parts := _GNU.fullmatch(line):
            escaped, value, name = parts[1], parts[2], parts[3]
            algorithm = _BY_DIGITS.get(len(value))
        elif parts := _BSD.fullmatch(line):
            escaped, name, value = parts[1], parts[3], parts[4]
            algorithm = parts[2].lower().replace("-", "")
            if _BY_DIGITS.get(len(value)) != algorithm:
                continue
        else:
            continue
        if algorithm is None:
            continue
        if escaped:
            name = _ESCAPED.sub(lambda match: _ESCAPES[match[1]], name)
        yield name, Digest(algorithm, value.lower())
