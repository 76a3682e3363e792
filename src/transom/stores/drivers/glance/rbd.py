"""Ceph RBD: an object is an RBD image with the protected snapshot `snap`, as Glance makes them.

The snapshot is taken last, so an image without it is not complete. Clouds clone from the snapshot; as
long as there are clones, the image is in use.

All threads share one connection, where the library would make one for each call: a connection takes
tens of milliseconds and a dozen threads.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import errno
import threading
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import structlog

from transom.stores.drivers.glance.backend import Found, Trouble, causes, named
from transom.stores.drivers.glance.library import Library

_log = structlog.get_logger(__name__)

SNAPSHOT = "snap"
CONNECT_SECONDS = 30
"""Without a bound a cluster that is away would hold its callers for minutes."""
_HEADER = "rbd_header."
_MISSING = frozenset({errno.ENOENT})
_TAKEN = frozenset({errno.EEXIST})
_BUSY = frozenset({errno.EBUSY, errno.ENOTEMPTY})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.EROFS})
_AWAY = frozenset({errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN, errno.ECONNREFUSED})
_LOST = _AWAY | {errno.EIO, errno.EINVAL}
"""After these a new connection may do better."""


class RbdBackend:
    """RBD images of one pool."""

    schemes: ClassVar[tuple[str, ...]] = ("rbd",)
    counts_sizes: ClassVar[bool] = False

    def __init__(self, library: Library) -> None:
        """Raises ModuleNotFoundError without the modules `rados` and `rbd`."""
        import rados
        import rbd

        self._library = library
        self._rados = rados
        self._rbd = rbd
        self._lock = threading.Lock()
        self._client: Any = None
        self._sources: weakref.WeakSet[RbdSource] = weakref.WeakSet()
        self._fsid = ""
        if library.option("rados_connect_timeout") < 0:
            library.conf.set_override("rados_connect_timeout", CONNECT_SECONDS, group=library.name)

    @property
    def pool(self) -> str:
        """Where new images go."""
        return str(self._library.option("rbd_store_pool"))

    def lists(self) -> bool:
        """True: a pool tells what is in it."""
        return True

    def url(self, name: str) -> str:
        """`rbd://fsid/pool/name/snap`, as Nova and Cinder know it."""
        return self._url_in(self._cluster(), self.pool, name)

    def name_of(self, url: str) -> str | None:
        """Raises ValueError for a URL of another cluster, or without a snapshot: only what is in a
        snapshot stays as it is."""
        parts = [unquote(part) for part in url.removeprefix("rbd://").split("/")]
        if not url.startswith("rbd://") or len(parts) != 4 or not all(parts):
            raise ValueError("it has to be rbd://fsid/pool/image/snapshot")
        fsid, pool, name, _ = parts
        if fsid != self._cluster():
            raise ValueError("it is in another cluster")
        return name if pool == self.pool and url == self.url(name) else None

    def add(self, name: str, data: Any, size_bytes: int) -> int:
        """See the contract. Without a size the image grows as it is written."""
        # The driver keeps the size of the image that it grows in itself: two at a time, and even
        # one after another, would spoil each other.
        driver = copy.copy(self._driver())
        _, written, *_ = driver.add(name, data, size_bytes, "md5")
        return int(written)

    def open(self, url: str) -> RbdSource:
        """See the contract."""
        pool, name, snapshot = self._parts(url)
        ioctx = self._connection().open_ioctx(pool)
        try:
            image = self._rbd.Image(ioctx, name, snapshot=snapshot, read_only=True)
        except BaseException:
            ioctx.close()
            raise
        source = RbdSource(self._rados, ioctx, image, name, snapshot)
        self._sources.add(source)
        return source

    def stat(self, url: str) -> Found:
        """See the contract."""
        source = self.open(url)
        try:
            return source.found
        finally:
            source.close()

    def delete(self, url: str) -> None:
        """See the contract. Images with clones, and those that others have open for writing, are in
        use and stay as they are."""
        pool, name, _ = self._parts(url)
        with self._ioctx(pool) as ioctx, self._rbd.Image(ioctx, name, read_only=True) as image:
            # The driver would take the snapshot off before it notices.
            if any(image.watchers_list()):
                raise self._rbd.ImageBusy("others have it open", errno=errno.EBUSY)
        self._driver().delete(self._library.location(url))

    def list(self, prefix: str) -> Iterator[Found]:
        """See the contract."""
        with self._ioctx(self.pool) as ioctx:
            for name in self._rbd.RBD().list(ioctx):
                if not name.startswith(prefix):
                    continue
                # It may go meanwhile.
                with (
                    contextlib.suppress(self._rbd.ImageNotFound),
                    self._rbd.Image(ioctx, name, read_only=True) as image,
                ):
                    yield Found(
                        name=name,
                        size_bytes=image.size(),
                        modified_at=_seconds(image.create_timestamp()),
                        is_complete=any(each["name"] == SNAPSHOT for each in image.list_snaps()),
                    )

    def check(self) -> None:
        """Write and remove a small object of the pool, which is no image."""
        with self._ioctx(self.pool) as ioctx:
            probe = f"transom-probe.{threading.get_ident()}"
            ioctx.write_full(probe, b"probe")
            ioctx.remove_object(probe)

    def properties(self) -> dict[str, object]:
        """See the contract; the cluster's id only once it is known."""
        return {
            "chunk_size": self._library.option("rbd_store_chunk_size") * 1024 * 1024,
            "pool": self.pool,
            "thin_provisioning": self._library.option("rbd_thin_provisioning"),
            **({"fsid": self._fsid} if self._fsid else {}),
        }

    def trouble(self, error: BaseException) -> Trouble | None:
        """By the number of the system's error that librbd and librados give, if they give one."""
        for each in causes(error):
            number = getattr(each, "errno", None)
            if not named(each, ("Error", "OSError")) or not isinstance(number, int):
                continue
            number = abs(number)
            if number in _LOST:
                self._forget()
            for numbers, meaning in (
                (_MISSING, Trouble.MISSING),
                (_TAKEN, Trouble.TAKEN),
                (_BUSY, Trouble.BUSY),
                (_FULL, Trouble.FULL),
                (_REFUSED, Trouble.REFUSED),
                (_AWAY, Trouble.AWAY),
            ):
                if number in numbers:
                    return meaning
            return Trouble.BROKEN
        return None

    def close(self) -> None:
        """Close what is still open, and end the connection: one that the end of the process finds
        open can take the process down with it."""
        for source in list(self._sources):
            source.close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.shutdown()

    # --- the connection ---

    def _driver(self) -> Any:
        # Before the driver is configured, because that connects too.
        self._connection()
        driver = self._library.driver()
        driver.get_connection = self._lent
        return driver

    @contextlib.contextmanager
    def _lent(self, **_: object) -> Iterator[Any]:
        """Stands for the driver's own way to connect."""
        yield self._connection()

    def _connection(self) -> Any:
        with self._lock:
            if self._client is None:
                option = self._library.option
                client = self._rados.Rados(
                    conffile=option("rbd_store_ceph_conf") or "",
                    rados_id=option("rbd_store_user") or None,
                )
                seconds = str(option("rados_connect_timeout"))
                for key in ("rados_osd_op_timeout", "rados_mon_op_timeout", "client_mount_timeout"):
                    client.conf_set(key, seconds)
                client.connect()
                self._fsid = client.get_fsid()
                self._client = client
            return self._client

    def _forget(self) -> None:
        with self._lock:
            # Not shut down: other threads may be using it. It ends with its last reference.
            self._client = None

    @contextlib.contextmanager
    def _ioctx(self, pool: str) -> Iterator[Any]:
        with self._connection().open_ioctx(pool) as ioctx:
            yield ioctx

    def _cluster(self) -> str:
        if not self._fsid:
            self._connection()
        return self._fsid

    def _url_in(self, fsid: str, pool: str, name: str) -> str:
        return "rbd://" + "/".join(quote(part, "") for part in (fsid, pool, name, SNAPSHOT))

    @staticmethod
    def _parts(url: str) -> tuple[str, str, str]:
        _, pool, name, snapshot = url.removeprefix("rbd://").split("/")
        return unquote(pool), unquote(name), unquote(snapshot)


class RbdSource:
    """One snapshot, open for reading.

    RBD gives zeros for what is not there, so data of an image that is being removed would read as
    zeros. Each read is therefore followed by a look whether the snapshot is still there: it goes
    before the data does.
    """

    def __init__(self, rados: Any, ioctx: Any, image: Any, name: str, snapshot: str) -> None:
        self._rados = rados
        self._ioctx: Any = ioctx
        self._image: Any = image
        self._header = _HEADER + image.id()
        ids = [each["id"] for each in image.list_snaps() if each["name"] == snapshot]
        self._mark = f"snapshot_{ids[0]:016x}" if ids else ""
        self.found = Found(
            name=name,
            size_bytes=image.size(),
            modified_at=_seconds(image.create_timestamp()),
        )

    def read(self, offset: int, length: int) -> bytes:
        """See the contract. Raises FileNotFoundError when the snapshot is gone."""
        data: bytes = self._image.read(offset, length)
        with self._rados.ReadOpCtx() as operation:
            marks, _ = self._ioctx.get_omap_vals_by_keys(operation, (self._mark,))
            self._ioctx.operate_read_op(operation, self._header)
            if not any(True for _ in marks):
                raise FileNotFoundError(errno.ENOENT, "the image was deleted while it was read")
        return data

    def close(self) -> None:
        """See the contract."""
        image, self._image = self._image, None
        if image is not None:
            image.close()
            self._ioctx.close()


def _seconds(moment: dt.datetime) -> float:
    return moment.replace(tzinfo=dt.UTC).timestamp()
