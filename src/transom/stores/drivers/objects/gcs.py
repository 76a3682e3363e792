"""Google Cloud Storage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import obstore.store

from transom.errors import ConfigurationError
from transom.settings import StoreSettings
from transom.stores.drivers.objects.options import read_options
from transom.stores.drivers.objects.shelf import Shelf, reached
from transom.stores.drivers.objects.store import ObjectStore
from transom.stores.options import text_option

_OWN = ("bucket", "service_account_file", "token")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class GcsStore(ObjectStore):
    """Objects in a bucket of Google Cloud Storage. Made from (name, settings, data folder), the last
    unused.

    Without `service_account_file` and `token` the credentials are those of the environment
    (`GOOGLE_APPLICATION_CREDENTIALS` and its like), or of the machine.
    """

    def __init__(self, name: str, settings: StoreSettings, data: Path) -> None:
        """Reaches no server. Raises ConfigurationError."""
        del data
        options = read_options(name, settings, _OWN)
        bucket = text_option(name, settings, "bucket", right="the name of a bucket that exists")
        if not _BUCKET.fullmatch(bucket):
            raise ConfigurationError(
                f"stores.{name}.bucket = {bucket!r}: use lower-case letters, digits, dots, "
                "underscores and dashes."
            )
        file, token = (
            text_option(name, settings, key) for key in ("service_account_file", "token")
        )
        if file and token:
            raise ConfigurationError(
                f"stores.{name}.token: there is a service_account_file too; leave one of them out."
            )
        config: dict[str, Any] = {}
        if options.endpoint_url:
            config["base_url"] = options.endpoint_url
        if file:
            config["service_account_key"] = _account(name, file)
        if token:
            config["bearer_token"] = token
        found = reached(
            obstore.store.GCSStore,
            bucket,
            store=name,
            whose="Google's",
            options=options,
            config=config,
        )
        super().__init__(Shelf(name, found, options, f"gs://{bucket}/"), "gs")


def _account(name: str, file: str) -> str:
    """The text of a service account's key file. Raises ConfigurationError."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        account = json.loads(text)
    except (OSError, ValueError):
        account = None
    if not isinstance(account, dict) or not {"client_email", "private_key"} <= account.keys():
        raise ConfigurationError(
            f"stores.{name}.service_account_file = {file!r}: it is no readable key of a service "
            "account; name the JSON file that Google gave out for it."
        )
    return text
