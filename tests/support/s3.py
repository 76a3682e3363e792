"""S3 stores on the real gateway of `tests.support.ceph`."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from tests.support import ceph
from transom.settings import StoreSettings

REGION = "default"


@functools.cache
def bucket() -> str:
    """The bucket that the tests of this process share, each with a prefix of its own."""
    return ceph.gateway().bucket()


def prefix_of(folder: Path) -> str:
    """A prefix for a test, by its temporary folder."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def options(**more: Any) -> dict[str, Any]:
    """Keys of `[stores.NAME]` that lead to the bucket; `more` replaces and adds."""
    gateway = ceph.gateway()
    return {
        "endpoint_url": gateway.url,
        "region": REGION,
        "bucket": more["bucket"] if "bucket" in more else bucket(),
        "access_key": gateway.access_key,
        "secret_key": gateway.secret_key,
        "addressing": "path",
    } | more


def settings(**more: Any) -> StoreSettings:
    """The settings of a store in the bucket."""
    return StoreSettings(driver="s3", options=options(**more))


def names_below(prefix: str) -> list[str]:
    """What is in the bucket below a prefix, uploads that were not completed included."""
    client = ceph.gateway().client()
    found = client.list_objects_v2(Bucket=bucket(), Prefix=prefix + "/").get("Contents", [])
    open_ = client.list_multipart_uploads(Bucket=bucket(), Prefix=prefix + "/")
    return [each["Key"] for each in (*found, *open_.get("Uploads", []))]
