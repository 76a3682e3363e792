"""Azure Blob Storage."""

from __future__ import annotations

import base64
import binascii
import os
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

_WAYS = {
    "access_key": ("account_key",),
    "sas_token": ("sas_key",),
    "client_secret": ("client_id", "client_secret", "tenant_id"),
}
_OWN = (
    "container",
    "account",
    "access_key",
    "sas_token",
    "tenant_id",
    "client_id",
    "client_secret",
)
_CONTAINER = re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")


class AzureStore(ObjectStore):
    """Blobs in a container of Azure. Made from (name, settings, data folder), the last unused.

    Credentials are an access key, a shared access signature, or an application (`tenant_id`,
    `client_id`, `client_secret`); without any of them those of the environment (`AZURE_…`), or the
    machine's managed identity.
    """

    def __init__(self, name: str, settings: StoreSettings, data: Path) -> None:
        """Reaches no server. Raises ConfigurationError."""
        del data
        options = read_options(name, settings, _OWN)
        values = {key: text_option(name, settings, key) for key in _OWN}
        container = text_option(name, settings, "container", right="a container that exists")
        account = values["account"] or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        for key, value, pattern in (
            ("container", container, _CONTAINER),
            ("account", account, _ACCOUNT),
        ):
            if not pattern.fullmatch(value):
                raise ConfigurationError(
                    f"stores.{name}.{key} = {value!r}: give the name of one in lower-case letters "
                    "and digits, 3 to 24 of them; containers may have dashes and 63."
                )
        config: dict[str, Any] = {"account_name": account} | _credentials(name, values)
        if options.endpoint_url:
            config["endpoint"] = options.endpoint_url
        found = reached(
            obstore.store.AzureStore,
            container,
            store=name,
            whose="Azure's",
            options=options,
            config=config,
        )
        super().__init__(Shelf(name, found, options, f"azure://{account}/{container}/"), "azure")


def _credentials(name: str, values: dict[str, str]) -> dict[str, Any]:
    """What the library takes for the one way of proof that is configured. Raises
    ConfigurationError."""
    chosen = [way for way in _WAYS if values[way]]
    if len(chosen) > 1:
        raise ConfigurationError(
            f"stores.{name}.{chosen[1]}: there is {chosen[0]} too; leave one of them out."
        )
    if not chosen:
        return {}
    way = chosen[0]
    if way == "client_secret":
        for key in _WAYS[way]:
            if not values[key]:
                raise ConfigurationError(
                    f"stores.{name}.{key}: a client_secret needs tenant_id and client_id besides."
                )
        return {key: values[key] for key in _WAYS[way]}
    if way == "access_key":
        try:
            base64.b64decode(values[way], validate=True)
        except binascii.Error:
            raise ConfigurationError(
                f"stores.{name}.access_key: it is no access key of a storage account, which is "
                "base64; copy it from the account's page."
            ) from None
    return {_WAYS[way][0]: values[way]}
