"""Taking a URL apart, strictly, so that what is judged is what is connected to.

Nothing but the parts of a Target ever reaches the network; the text that the user gave does not.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import quote

import msgspec

from transom.remote.addresses import Address

PORTS: Final = {"http": 80, "https": 443}
_LENGTH_MAX: Final = 8192
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    r"(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")


class Malformed(ValueError):
    """The text is no URL that can be read without guessing; says why, for the log."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One URL, taken apart and normalised. `guard.check` makes it."""

    scheme: str
    host: str
    """A name in lower case and ASCII, or an address in its usual spelling, without brackets."""
    port: int
    path: str
    """Path and query, as they stand in a request line."""
    address: Address | None = None
    """The host, if it is an address."""
    vouched: bool = False
    """The operator has named this very host, so its addresses are not judged."""

    @property
    def url(self) -> str:
        """The URL without user name, password and fragment."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as in a Host field, the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are good for."""
        return self.scheme, self.host, self.port


def taken_apart(url: str) -> Target:
    """The Target of an absolute http or https URL. Raises Malformed."""
    if len(url) > _LENGTH_MAX:
        raise Malformed("longer than any URL should be")
    if _UNFIT.search(url):
        raise Malformed("blanks, control characters or backslashes")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise Malformed("not an absolute URL")
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
    if scheme not in PORTS:
        raise Malformed("a scheme other than http and https")
    if "@" in authority:
        raise Malformed("user name or password")
    host, address, rest = _host(authority)
    if rest and (not rest.startswith(":") or not re.fullmatch(r":[0-9]{0,5}", rest, re.ASCII)):
        raise Malformed("a port that is not a number")
    port = int(rest[1:]) if len(rest) > 1 else PORTS[scheme]
    if not 0 < port < 65536:
        raise Malformed("a port that does not exist")
    # Percent signs stay: what is quoted already is not quoted twice.
    text = quote(path or "/", safe="%/:@!$&'()*+,;=~") + quote(query, safe="%/:@!$&'()*+,;=~?")
    return Target(scheme=scheme, host=host, port=port, path=text, address=address)


def _host(authority: str) -> tuple[str, Address | None, str]:
    """The host, the address if it is one, and what follows it."""
    if authority.startswith("["):
        inner, bracket, rest = authority[1:].partition("]")
        try:
            v6 = ipaddress.IPv6Address(inner)
        except ValueError:
            raise Malformed("brackets around something else than an IPv6 address") from None
        if not bracket or v6.scope_id is not None:
            raise Malformed("an IPv6 address with a zone, or without its bracket")
        if v6.ipv4_mapped is not None:
            raise Malformed("an IPv4 address spelled as an IPv6 one")
        return v6.compressed, v6, rest
    name, colon, port = authority.partition(":")
    name = named(name)
    try:
        v4 = ipaddress.IPv4Address(name)
    except ValueError:
        # Resolvers take 2130706433, 0x7f.1, 0177.0.0.1 and 127.1 for addresses (inet_aton).
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            raise Malformed("an address in an unusual spelling") from None
        return name, None, colon + port
    return str(v4), v4, colon + port


def named(host: str) -> str:
    """A host name in lower case and ASCII, without a dot at its end. Raises Malformed."""
    if not host.isascii():
        import idna

        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode()
        except idna.IDNAError:
            raise Malformed("a host name that cannot be written in ASCII") from None
    host = host.lower().removesuffix(".")
    if not _NAME.fullmatch(host):
        raise Malformed("no host, or characters that a host name cannot have")
    return host
