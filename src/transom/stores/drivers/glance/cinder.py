"""Cinder: an object is a volume of the service's project, called `image-` and the object's name.

The volume becomes read-only when it is complete. Its URL holds the volume's id, which Cinder gives, so
the way from a name to a URL is a search by name.
"""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Iterator
from typing import Any, ClassVar

from transom.errors import ConfigurationError
from transom.stores.drivers.glance.backend import Found, Trouble, causes, named
from transom.stores.drivers.glance.library import Library

_CODES = {401: Trouble.REFUSED, 403: Trouble.REFUSED, 404: Trouble.MISSING, 413: Trouble.FULL}
_USER = (
    "cinder_store_auth_address",
    "cinder_store_user_name",
    "cinder_store_password",
    "cinder_store_project_name",
)
_CREDENTIAL = (
    "cinder_store_auth_address",
    "cinder_store_application_credential_id",
    "cinder_store_application_credential_secret",
)
_GIB = 1024**3


class CinderBackend:
    """Volumes of one project."""

    schemes: ClassVar[tuple[str, ...]] = ("cinder",)
    counts_sizes: ClassVar[bool] = True

    def __init__(self, library: Library) -> None:
        """Raises ConfigurationError without credentials of the service's own, and
        ModuleNotFoundError without cinderclient and os_brick."""
        import cinderclient
        import os_brick

        del cinderclient, os_brick
        self._library = library
        if not any(all(library.option(key) for key in keys) for keys in (_USER, _CREDENTIAL)):
            raise ConfigurationError(
                f"stores.{library.name}: volumes belong to a project of the service's own; set "
                f"{', '.join(_USER)}, or an application credential."
            )
        project = library.option("cinder_store_project_name") or "service"
        # What the driver wants of a caller, and does not use when it has credentials.
        self._context = types.SimpleNamespace(
            user_id=None, project_id=project, auth_token=None, service_catalog=[]
        )
        self._urls: dict[str, str] = {}

    def lists(self) -> bool:
        """True: a project tells its volumes."""
        return True

    def url(self, name: str) -> str:
        """`cinder://store/volume-id`; asks Cinder for an object that this process did not write."""
        if name not in self._urls:
            self._urls[name] = self._url_of(self._volume(name))
        return self._urls[name]

    def name_of(self, url: str) -> str | None:
        """None: a volume is known by its id alone."""
        self._library.location(url)
        return None

    def add(self, name: str, data: Any, size_bytes: int) -> int:
        """See the contract. Without a size the volume grows by a GiB at a time, which is slow."""
        url, written, *_ = self._library.driver().add(
            name, data, size_bytes, "md5", context=self._context
        )
        self._urls[name] = url
        return int(written)

    def open(self, url: str) -> CinderSource:
        """See the contract."""
        return CinderSource(self._library, self._context, url, self.stat(url))

    def stat(self, url: str) -> Found:
        """See the contract. Raises FileNotFoundError for a volume that is not complete."""
        location = self._library.location(url).store_location
        found = _found(self._volumes().get(location.volume_id))
        if not found.is_complete:
            raise FileNotFoundError(url)
        return found

    def delete(self, url: str) -> None:
        """See the contract."""
        self._library.driver().delete(self._library.location(url), context=self._context)

    def list(self, prefix: str) -> Iterator[Found]:
        """See the contract."""
        for volume in self._volumes().list():
            if (volume.name or "").startswith(f"image-{prefix}"):
                yield _found(volume)

    def check(self) -> None:
        """Have Cinder answer: a volume made for a probe would take seconds."""
        self._volumes().list(limit=1)

    def properties(self) -> dict[str, object]:
        """See the contract."""
        return {
            "volume_type": self._library.option("cinder_volume_type"),
            "use_multipath": self._library.option("cinder_use_multipath"),
        }

    def trouble(self, error: BaseException) -> Trouble | None:
        """By the status that Cinder answered, if it answered."""
        for each in causes(error):
            if isinstance(each, FileNotFoundError):
                return Trouble.MISSING
            code = getattr(each, "code", None)
            if named(each, ("ClientException",)) and isinstance(code, int):
                if code == 400 and ("in-use" in str(each) or "snapshot" in str(each)):
                    return Trouble.BUSY
                return _CODES.get(code, Trouble.AWAY if code >= 500 else Trouble.BROKEN)
            if named(each, ("Unauthorized", "Forbidden")):
                return Trouble.REFUSED
            if named(each, ("ConnectFailure", "RequestException", "DiscoveryFailure")):
                return Trouble.AWAY
        return None

    def close(self) -> None:
        """Nothing is held."""

    def _volumes(self) -> Any:
        return self._library.driver().get_cinderclient(self._context).volumes

    def _volume(self, name: str) -> Any:
        for volume in self._volumes().list(search_opts={"name": f"image-{name}"}):
            if volume.name == f"image-{name}":
                return volume
        raise FileNotFoundError(name)

    def _url_of(self, volume: Any) -> str:
        return f"cinder://{self._library.name}/{volume.id}"


class CinderSource:
    """One volume. Attaching it takes seconds, so it stays attached while it is read in order."""

    def __init__(self, library: Library, context: Any, url: str, found: Found) -> None:
        self._library = library
        self._context = context
        self._url = url
        self._pieces: Any = None
        self._at = 0
        self._rest = b""
        self.found = found

    def read(self, offset: int, length: int) -> bytes:
        """See the contract."""
        if self._pieces is None or offset != self._at:
            self.close()
            driver, location = self._library.driver(), self._library.location(self._url)
            self._pieces, _ = driver.get(location, offset=offset, context=self._context)
            self._at, self._rest = offset, b""
        while len(self._rest) < length and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:length], self._rest[length:]
        self._at += len(data)
        return data

    def close(self) -> None:
        """Detach the volume."""
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.close()


def _found(volume: Any) -> Found:
    made = dt.datetime.fromisoformat(volume.created_at).replace(tzinfo=dt.UTC)
    return Found(
        name=volume.name.removeprefix("image-"),
        size_bytes=int(volume.metadata.get("image_size", volume.size * _GIB)),
        modified_at=made.timestamp(),
        is_complete=str(volume.metadata.get("readonly", "")).lower() == "true",
    )
