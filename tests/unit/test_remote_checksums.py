"""Lists of digests as checksum programs write them."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.unruly import Source
from transom.errors import ChecksumsUnreadable, FetchFailed
from transom.remote.checksums import SIZE_BYTES_MAX, digest_of, find
from transom.remote.guard import Guard
from transom.settings import Imports, Settings

ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


def hexadecimal(algorithm: str, data: bytes = b"x") -> str:
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "line",
    ["{value}  disk.raw", "{value} *disk.raw", "{upper}  disk.raw", "{value}  ./disk.raw",
     "{value} *release/1/disk.raw", "{name} (disk.raw) = {value}", "{name}(disk.raw)= {value}",
     "{name} (a/disk.raw) = {upper}", "{value}  disk.raw\r"],
)  # fmt: skip
def test_every_form_and_algorithm_is_read(algorithm: str, line: str) -> None:
    value = hexadecimal(algorithm)
    text = line.format(value=value, upper=value.upper(), name=algorithm.upper())
    other = f"{hexadecimal(algorithm, b'y')}  other.raw\n"
    assert find(f"{other}{text}\n{other}", "disk.raw") == (algorithm, value)


def test_what_stands_around_the_list_is_passed_over() -> None:
    value = hexadecimal("sha256")
    text = (
        "\ufeff-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.raw: 5 bytes\n"
        f"{value}  disk.raw\n-----BEGIN PGP SIGNATURE-----\niQIz\n"
    )
    assert find(text, "disk.raw") == ("sha256", value)


def test_the_whole_name_counts_before_the_last_part_of_one() -> None:
    here, below = hexadecimal("sha256", b"1"), hexadecimal("sha256", b"2")
    text = f"{below}  old/disk.raw\n{here}  disk.raw\n"
    assert find(text, "disk.raw") == ("sha256", here)


def test_the_strongest_of_several_digests_is_taken() -> None:
    lines = [f"{hexadecimal(algorithm)}  disk.raw" for algorithm in ALGORITHMS]
    assert find("\n".join(lines), "disk.raw") == ("sha512", hexadecimal("sha512"))


def test_names_with_blanks_brackets_and_escapes() -> None:
    value = hexadecimal("sha256")
    assert find(f"{value}  my disk (1).raw", "my disk (1).raw") == ("sha256", value)
    assert find(f"SHA256 (my disk (1).raw) = {value}", "my disk (1).raw") == ("sha256", value)
    assert find(f"\\{value}  a\\\\b\\nc.raw", "a\\b\nc.raw") == ("sha256", value)


@pytest.mark.parametrize("name", ["disk", "disk.raw.gz", "k.raw", "DISK.RAW", ""])
def test_a_file_that_is_not_named_has_no_digest(name: str) -> None:
    assert find(f"{hexadecimal('sha256')}  disk.raw", name) is None


@pytest.mark.parametrize(
    "text",
    ["", "<html>\n<body>404</body>", "\0" * 1000, "abc  disk.raw", "z" * 64 + "  disk.raw",
     "a" * 63 + "  disk.raw", "SHA512 (disk.raw) = " + "a" * 64],
    ids=["empty", "page", "zeros", "short", "not hexadecimal", "odd length", "wrong algorithm"],
)  # fmt: skip
def test_what_is_no_list_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ChecksumsUnreadable):
        find(text, "disk.raw")


def test_two_digests_that_differ_are_none() -> None:
    first, second = hexadecimal("sha256", b"1"), hexadecimal("sha256", b"2")
    with pytest.raises(ChecksumsUnreadable, match="differ"):
        find(f"{first}  a/disk.raw\n{second}  b/disk.raw\n", "disk.raw")
    assert find(f"{first}  a/disk.raw\n{first.upper()}  b/disk.raw\n", "disk.raw") is not None


async def test_the_list_is_read_from_its_url_up_to_a_limit() -> None:
    imports = Imports(allowed_hosts=("127.0.0.1",), allowed_ports=(), retries_max=0)
    guard = Guard.open(Settings(imports=imports))
    value = hexadecimal("sha256")
    line = f"{value} *disk.raw\n".encode()
    async with Source(line) as source:
        assert await digest_of(guard, source.url, "disk.raw") == ("sha256", value)
        assert await digest_of(guard, source.url, "other") is None
        source.data = line + b"#" * (SIZE_BYTES_MAX - len(line))
        assert await digest_of(guard, source.url, "disk.raw") == ("sha256", value)
        source.data += b"#"
        with pytest.raises(ChecksumsUnreadable):
            await digest_of(guard, source.url, "disk.raw")
        closed = source.url
    with pytest.raises(FetchFailed):
        await digest_of(guard, closed, "disk.raw")
