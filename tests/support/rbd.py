"""Stores in RBD on the real node of `tests.support.ceph`, through Glance's driver library."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import ceph
from transom.settings import StoreSettings


@functools.cache
def pool() -> str:
    """The pool that the tests of this process share, each with a prefix of its own."""
    return ceph.node().pool()


@functools.cache
def modules() -> Path:
    """A folder with the modules `rados` and `rbd`, now importable here too. Skips the test where the
    distribution has them for another Python only."""
    made = Path(tempfile.mkdtemp(prefix="transom-rbd-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = ceph.python_modules(made)
    if folder is None:
        pytest.skip("the distribution's rbd module is made for another Python")
    sys.path.append(str(folder))
    return folder


def options(**more: Any) -> dict[str, Any]:
    """Keys of `[stores.NAME]` that lead to the pool; `more` replaces and adds."""
    modules()
    return {
        "kind": "rbd",
        "rbd_store_ceph_conf": str(ceph.node().conf),
        "rbd_store_user": "admin",
        "rbd_store_pool": more["rbd_store_pool"] if "rbd_store_pool" in more else pool(),
    } | more


def settings(**more: Any) -> StoreSettings:
    """The settings of a store in the pool."""
    return StoreSettings(driver="glance_store", options=options(**more))


def in_folder(folder: Path) -> StoreSettings:
    """The settings of a store that sees the objects of one temporary folder alone."""
    return settings(prefix=hashlib.sha256(str(folder).encode()).hexdigest()[:16] + "-")
