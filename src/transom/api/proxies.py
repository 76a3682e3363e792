"""Which address the client used, and which it has, when trusted proxies stand in between
(errors.md §3)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.types import Scope

_HOST: Final = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~\-]+)*")


class TrustedProxies:
    """Reads `X-Forwarded-Proto`, `-Host`, `-Prefix` and `-For` from proxies that the operator
    named, and from nobody else."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def base_url(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Scheme, host and mount path as the client used them, without a trailing slash."""
        scheme = str(scope["scheme"])
        host = headers.get("host") or "{}:{}".format(*scope["server"])
        prefix = str(scope.get("root_path", ""))
        if self._networks and self._trusts(scope):
            proto = _first(headers, "x-forwarded-proto").lower()
            scheme = proto if proto in ("http", "https") else scheme
            forwarded = _first(headers, "x-forwarded-host")
            host = forwarded if _HOST.fullmatch(forwarded) else host
            given = _first(headers, "x-forwarded-prefix").rstrip("/")
            prefix = given if given and _PREFIX.fullmatch(given) else prefix
        return f"{scheme}://{host}{prefix}"

    def client_address(self, scope: Scope) -> str:
        """The address of the client, as the nearest proxy that is not trusted, or the client
        itself, is seen: what stands left of it in `X-Forwarded-For` anybody could have written."""
        client = scope.get("client")
        address = str(client[0]) if client else ""
        named = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = b",".join(named).decode("latin-1").split(",")
        while hops and self._trusts_address(address):
            hop = hops.pop().strip()
            if not hop:
                break
            address = hop
        return address

    def _trusts(self, scope: Scope) -> bool:
        client = scope.get("client")
        return self._trusts_address(client[0] if client else "")

    def _trusts_address(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _first(headers: Mapping[str, str], name: str) -> str:
    # A chain of proxies appends; the first entry is what the client used.
    return headers.get(name, "").partition(",")[0].strip()
