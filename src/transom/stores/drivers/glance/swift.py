"""OpenStack Swift, or whatever speaks its API: an object, and for large ones its segments beside it.

Segments are called as the object, a dash and five digits. The object itself is written last, so
segments without one belong to a write that never ended.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

from transom.errors import ConfigurationError
from transom.stores.drivers.glance.backend import Found, Trouble, causes, named
from transom.stores.drivers.glance.library import Library

_SEGMENT = re.compile(r"(.+)-[0-9]{5}")
_HTTP = {401: Trouble.REFUSED, 403: Trouble.REFUSED, 404: Trouble.MISSING, 413: Trouble.FULL,
         507: Trouble.FULL}  # fmt: skip


class SwiftBackend:
    """Objects of one container, in the account of one user."""

    schemes: ClassVar[tuple[str, ...]] = ("swift+config",)
    counts_sizes: ClassVar[bool] = False

    def __init__(self, library: Library) -> None:
        """Raises ConfigurationError for what Transom cannot do, and ModuleNotFoundError without
        swiftclient."""
        import swiftclient

        self._client = swiftclient
        self._library = library
        self._kept = threading.local()
        name = library.name
        if library.option("swift_store_multi_tenant"):
            raise ConfigurationError(
                f"stores.{name}.swift_store_multi_tenant: Transom keeps all images in one account; "
                "leave it out."
            )
        if not library.option("swift_store_config_file"):
            raise ConfigurationError(
                f"stores.{name}.swift_store_config_file: name the file with the credentials; without "
                "it they would stand in the locations of images."
            )

    @property
    def container(self) -> str:
        """Where new objects go."""
        return str(self._library.option("swift_store_container"))

    @property
    def reference(self) -> str:
        """The section of the file with the credentials."""
        return str(self._library.option("default_swift_reference"))

    def lists(self) -> bool:
        """True with one container."""
        return not self._library.option("swift_store_multiple_containers_seed")

    def url(self, name: str) -> str:
        """`swift+config://reference/container/name`."""
        container = self._library.driver().get_container_name(name, self.container)
        return f"swift+config://{self.reference}/{container}/{name}"

    def name_of(self, url: str) -> str | None:
        """See the contract."""
        parts = urlsplit(url)
        names = parts.path.split("/")
        if parts.scheme != "swift+config" or len(names) != 3 or not all(names[1:]):
            raise ValueError("it has to be swift+config://reference/container/object")
        self._library.location(url)
        return names[2] if url == self.url(names[2]) else None

    def add(self, name: str, data: Any, size_bytes: int) -> int:
        """See the contract. Without a size the object is made of segments."""
        _, written, *_ = self._library.driver().add(name, data, size_bytes, "md5")
        return int(written)

    def open(self, url: str) -> SwiftSource:
        """See the contract."""
        return SwiftSource(self, url, self.stat(url))

    def stat(self, url: str) -> Found:
        """See the contract."""
        location, connection = self.reach(url)
        facts = connection.head_object(location.container, location.obj)
        return Found(
            name=location.obj,
            size_bytes=int(facts["content-length"]),
            modified_at=float(int(float(facts["x-timestamp"]))),
        )

    def delete(self, url: str) -> None:
        """See the contract."""
        location, connection = self.reach(url)
        try:
            # With a connection of its own the driver would log in again, and look elsewhere for the
            # endpoint than it does when it writes.
            self._library.driver().delete(self._library.location(url), connection=connection)
        except Exception as error:
            if self.trouble(error) is not Trouble.MISSING and not named(error, ("NotFound",)):
                raise
            for each in self._entries(connection, location.container, f"{location.obj}-"):
                if _base(each["name"]) == location.obj:
                    connection.delete_object(location.container, each["name"])

    def list(self, prefix: str) -> Iterator[Found]:
        """See the contract."""
        _, connection = self.reach(self.url("any"))
        whole: dict[str, Any] = {}
        segments: dict[str, list[Any]] = {}
        for each in self._entries(connection, self.container, prefix):
            base = _base(each["name"])
            if base is None:
                whole[each["name"]] = each
            else:
                segments.setdefault(base, []).append(each)
        for name, each in whole.items():
            size_bytes = each["bytes"] + sum(part["bytes"] for part in segments.pop(name, ()))
            yield Found(name=name, size_bytes=size_bytes, modified_at=_seconds(each))
        for name, parts in segments.items():
            yield Found(
                name=name,
                size_bytes=sum(part["bytes"] for part in parts),
                modified_at=max(map(_seconds, parts)),
                is_complete=False,
            )

    def check(self) -> None:
        """Write and remove a small object, whose name is no key."""
        _, connection = self.reach(self.url("any"))
        probe = f".transom-probe.{threading.get_ident()}"
        self._library.driver()._create_container_if_missing(self.container, connection)  # noqa: SLF001
        connection.put_object(self.container, probe, b"probe")
        connection.delete_object(self.container, probe)

    def properties(self) -> dict[str, object]:
        """See the contract."""
        option = self._library.option
        return {
            "container": self.container,
            "large_object_size": option("swift_store_large_object_size") * 1024 * 1024,
            "large_object_chunk_size": option("swift_store_large_object_chunk_size") * 1024 * 1024,
        }

    def trouble(self, error: BaseException) -> Trouble | None:
        """By the status that the server answered, if it answered."""
        for each in causes(error):
            if named(each, ("ClientException",)):
                status = getattr(each, "http_status", None)
                return _HTTP.get(status or 0, Trouble.AWAY)
            if named(each, ("Unauthorized", "Forbidden")):
                return Trouble.REFUSED
            if named(each, ("ConnectFailure", "RequestException", "HttpError", "DiscoveryFailure")):
                return Trouble.AWAY
        return None

    def close(self) -> None:
        """Connections end with the threads that have them."""

    def reach(self, url: str) -> tuple[Any, Any]:
        """Where a URL leads, and a connection of this thread that leads there."""
        location = self._library.location(url).store_location
        managers: dict[str, Any] | None = getattr(self._kept, "managers", None)
        if managers is None:
            managers = self._kept.managers = {}
        account = urlsplit(url).netloc
        if account not in managers:
            managers[account] = self._library.driver().get_manager(location, allow_reauth=True)
        return location, managers[account].get_connection()

    @staticmethod
    def _entries(connection: Any, container: str, prefix: str) -> Iterator[Any]:
        marker = ""
        while True:
            _, page = connection.get_container(container, prefix=prefix, marker=marker)
            if not page:
                return
            yield from page
            marker = page[-1]["name"]


class SwiftSource:
    """One object, read range by range: each is a request, which the client repeats when it breaks."""

    def __init__(self, backend: SwiftBackend, url: str, found: Found) -> None:
        self._backend = backend
        self._url = url
        self.found = found

    def read(self, offset: int, length: int) -> bytes:
        """See the contract."""
        location, connection = self._backend.reach(self._url)
        _, data = connection.get_object(
            location.container,
            location.obj,
            headers={"Range": f"bytes={offset}-{offset + length - 1}"},
        )
        return bytes(data)

    def close(self) -> None:
        """Nothing is held."""


def _base(name: str) -> str | None:
    """The object that a segment belongs to; None for what is no segment."""
    found = _SEGMENT.fullmatch(name)
    return found[1] if found else None


def _seconds(entry: Any) -> float:
    moment = dt.datetime.fromisoformat(entry["last_modified"].rstrip("Z"))
    return float(int(moment.replace(tzinfo=dt.UTC).timestamp()))
