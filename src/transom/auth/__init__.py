"""Who is asking? One backend a file, chosen by `[identity] backend`, found in the table below."""

from __future__ import annotations

import importlib
from typing import Any, cast

from transom.auth.authenticator import Authenticator
from transom.settings import Settings

BACKENDS: dict[str, str] = {
    "local": "transom.auth.backends.local:LocalAuthenticator",
    "keystone": "transom.auth.backends.keystone:KeystoneAuthenticator",
    "none": "transom.auth.backends.none:NoAuthenticator",
}
"""Every identity backend, by the name that `[identity] backend` gives it."""


def open_authenticator(settings: Settings, catalog: Any) -> Authenticator:
    """The backend that the settings name: its class's `open(settings, catalog)`, or, for one that
    needs nothing of the catalog, its constructor with the settings. Raises ConfigurationError."""
    module, _, name = BACKENDS[settings.identity.backend].partition(":")
    kind = getattr(importlib.import_module(module), name)
    opener = getattr(kind, "open", None)
    return cast("Authenticator", kind(settings) if opener is None else opener(settings, catalog))


def bootstrap(settings: Settings, catalog: Any) -> list[str]:
    """What the backend needs done before the first request, once for all processes: the local
    identity makes its first users. Gives the lines to print. Raises CatalogUnavailable,
    ConfigurationError."""
    if settings.identity.backend != "local":
        return []
    from transom.auth.local.bootstrap import bootstrap as first_start

    return first_start(settings, catalog.identity)
