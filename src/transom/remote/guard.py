"""The guard before every URL that a user gives: import, location, task.

Two questions, in this order. `check`: may this URL be read at all, as far as its text tells? And
`resolve`: which addresses does its name have, and which of them may be connected to? A connection
goes to one of those addresses and to nothing else; nobody asks the name again, so an answer that
changes in between changes nothing. Redirects are new URLs and pass both questions.

What is refused and why is told in docs/explanation/urls.md, decision 60. The reason goes to the
log; the user learns "not allowed".
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, Self
from urllib.parse import urljoin

import msgspec
import structlog

from transom.errors import UrlRefused
from transom.remote.addresses import Address, Network, reason_against
from transom.remote.proxy import Proxy, proxy_for
from transom.remote.targets import Malformed, Target, named, taken_apart
from transom.settings import Settings

log = structlog.get_logger(__name__)

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a name for a port, in the order to try them. Raises OSError."""

EVERY_PUBLIC_HOST: Final = "*"
ADDRESSES_MAX: Final = 8
"""Addresses of one name that are looked at."""
LOOKUPS_MAX: Final = 8
"""Names that one process asks for at a time, each in a thread."""
_LOOPBACK: Final = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


class Hosts(msgspec.Struct, frozen=True):
    """A list of hosts as the configuration has it."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> Self:
        """The list of names, addresses and networks."""
        names: set[str] = set()
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                names.add(named(entry))
        return cls(frozenset(names), tuple(networks))

    def holds(self, address: Address) -> bool:
        """True when the address is in one of the networks."""
        return any(
            address in network for network in self.networks if network.version == address.version
        )


class Guard:
    """What this deployment allows to be read, and from where."""

    def __init__(
        self,
        settings: Settings,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        origins: frozenset[tuple[str, str, int]] = frozenset(),
    ) -> None:
        imports = settings.imports
        self.settings = settings
        self._schemes = frozenset(imports.allowed_schemes)
        self._ports = frozenset(imports.allowed_ports)
        self._public = not imports.allowed_hosts or EVERY_PUBLIC_HOST in imports.allowed_hosts
        self._allowed = Hosts.read(set(imports.allowed_hosts) - {EVERY_PUBLIC_HOST})
        self._disallowed = Hosts.read(imports.disallowed_hosts)
        self._origins = origins
        self._resolver = resolver or look_up
        self._tls = tls

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """The guard of a configuration. `resolver` stands in for the system's, `tls` for its
        certificate authorities."""
        return cls(settings, resolver=resolver, tls=tls)

    def vouching_for(self, url: str) -> Guard:
        """A guard that lets this URL's scheme, host and port pass besides, whatever they are.

        For URLs that the operator's own service catalogue gives, never for a user's. Raises
        UrlRefused when it is no URL.
        """
        try:
            origin = taken_apart(url).origin
        except Malformed as unfit:
            raise _refused(str(unfit)) from None
        return Guard(
            self.settings,
            resolver=self._resolver,
            tls=self._tls,
            origins=self._origins | {origin},
        )

    def tuned(self, **imports: int) -> Guard:
        """A guard that allows the same, with other numbers of tries and connections."""
        changed = msgspec.structs.replace(self.settings.imports, **imports)
        return Guard(
            msgspec.structs.replace(self.settings, imports=changed),
            resolver=self._resolver,
            tls=self._tls,
            origins=self._origins,
        )

    def check(self, url: str) -> Target:
        """The URL taken apart, if its text gives no reason against it. Asks nobody.

        Raises UrlRefused.
        """
        try:
            target = taken_apart(url)
        except Malformed as unfit:
            raise _refused(str(unfit)) from None
        if target.origin in self._origins:
            return msgspec.structs.replace(target, vouched=True)
        if self._schemes and target.scheme not in self._schemes:
            raise _refused("its scheme is not in imports.allowed_schemes", target)
        if self._ports and target.port not in self._ports:
            raise _refused("its port is not in imports.allowed_ports", target)
        if target.host in self._allowed.names:
            return msgspec.structs.replace(target, vouched=True)
        if target.address is not None:
            reason = self._reason_against(target.address)
        else:
            reason = self._reason_against_name(target.host)
        if reason:
            raise _refused(reason, target)
        return target

    def check_redirect(self, source: Target, location: str) -> Target:
        """Where a redirect from a checked target leads, judged like any URL.

        Raises UrlRefused, also for one that leaves https: what was asked for over TLS is not taken
        from anybody on the way.
        """
        try:
            target = self.check(urljoin(source.url, location))
        except ValueError:
            raise _refused("a redirect to something else than a URL", source) from None
        if source.scheme == "https" and target.scheme != "https":
            raise _refused("a redirect from https to http", target)
        return target

    async def addresses_to_dial(self, target: Target) -> tuple[Address, ...]:
        """As `resolve`; nothing for a host that the operator vouches for and a proxy resolves."""
        if target.vouched and target.address is None and self.proxy_for(target) is not None:
            return ()
        return await self.resolve(target)

    async def resolve(self, target: Target) -> tuple[Address, ...]:
        """The addresses of a checked target that may be connected to, in the order to try them.

        Raises UrlRefused when it has addresses and none of them is allowed, OSError when it has
        none, TimeoutError after `imports.connect_timeout_seconds`.
        """
        if target.address is not None:
            return (target.address,)
        async with asyncio.timeout(self.settings.imports.connect_timeout_seconds):
            texts = await self._resolver(target.host, target.port)
        found = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)][:ADDRESSES_MAX]
        if not found:
            raise OSError("the name has no address")
        if target.vouched:
            return tuple(found)
        denied = target.host in self._disallowed.names
        reasons = {address: self._reason_against(address, denied=denied) for address in found}
        good = tuple(address for address, reason in reasons.items() if reason is None)
        if not good:
            told = "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
            raise _refused(told, target)
        return good

    def proxy_for(self, target: Target) -> Proxy | None:
        """The proxy to reach the target through, None for none."""
        return proxy_for(target, self.settings.imports.proxy)

    def tls(self) -> ssl.SSLContext:
        """What servers are verified with: the system's authorities, where operators put theirs."""
        return self._tls or _system_tls()

    def _reason_against_name(self, name: str) -> str | None:
        if not self._public and not self._allowed.networks:
            return "its host is not in imports.allowed_hosts"
        # RFC 6761 §6.3: these names never leave the machine.
        if name.rpartition(".")[2] == "localhost" and not any(
            self._allowed.holds(address) for address in _LOOPBACK
        ):
            return "its host is this machine"
        # An address that the operator allows is stronger than a name that is refused.
        if name in self._disallowed.names and not self._allowed.networks:
            return "its host is in imports.disallowed_hosts"
        return None

    def _reason_against(self, address: Address, *, denied: bool = False) -> str | None:
        """Why not to connect to the address; `denied` when its name is refused already."""
        if self._allowed.holds(address):
            return None
        if not self._public:
            return "not in imports.allowed_hosts"
        if denied or self._disallowed.holds(address):
            return "in imports.disallowed_hosts"
        return reason_against(address)


def _refused(reason: str, target: Target | None = None) -> UrlRefused:
    """The error for the user; the reason is the operator's. Paths may hold secrets, so neither
    has them."""
    facts = {} if target is None else {"scheme": target.scheme, "authority": target.authority}
    log.warning("url refused", reason=reason, **facts)
    return UrlRefused()


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@cache
def _lookups() -> ThreadPoolExecutor:
    # Threads of its own: names whose servers do not answer hold up other names and nothing else.
    return ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="lookup")


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system's resolver orders them. Raises OSError."""
    found = await asyncio.get_running_loop().run_in_executor(
        _lookups(),
        lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP),
    )
    return [str(entry[4][0]) for entry in found]
