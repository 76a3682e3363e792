"""The proxy that URLs are read through, if there is one."""

from __future__ import annotations

import base64
from typing import Self
from urllib import request
from urllib.parse import unquote, urlsplit

import msgspec

from transom.errors import ConfigurationError
from transom.remote.targets import Target

ENVIRONMENT = "environment"


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """Where an HTTP proxy listens, and what it wants to see."""

    host: str
    port: int
    authorization: str = ""
    """The value of Proxy-Authorization; empty = none. Secret."""

    @classmethod
    def read(cls, url: str) -> Self:
        """The proxy of `http://[user:password@]host:port`. Raises ConfigurationError."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme != "http":
            raise ConfigurationError(
                "The proxy for reading URLs is not of the form http://[user:password@]host:port; "
                "correct imports.proxy, or HTTP_PROXY and HTTPS_PROXY if it names the environment."
            )
        authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return cls(host=host, port=port or 80, authorization=authorization)


def proxy_for(target: Target, setting: str) -> Proxy | None:
    """The proxy to reach the target through, None for none. Raises ConfigurationError."""
    if setting != ENVIRONMENT:
        return Proxy.read(setting) if setting else None
    known = request.getproxies_environment()
    url = known.get(target.scheme) or known.get("all")
    # Looked up by name: the types of Python's library do not know this one.
    is_bypassed = vars(request)["proxy_bypass_environment"](f"{target.host}:{target.port}", known)
    if not url or is_bypassed:
        return None
    return Proxy.read(url)
