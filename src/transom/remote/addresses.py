"""Which addresses belong to nobody's public server, and why.

The tables follow IANA's registries of special-purpose addresses (RFC 6890), of the IPv6 address
space and of multicast addresses. What carries an IPv4 address inside an IPv6 one is refused as a
whole: a translator on the way would make any address of it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _table(rows: dict[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ip_network(network), reason) for network, reason in rows.items())


REFUSED: Final = _table(
    {
        "0.0.0.0/8": "this host (RFC 1122)",
        "10.0.0.0/8": "private (RFC 1918)",
        "100.64.0.0/10": "behind a carrier's NAT (RFC 6598)",
        "127.0.0.0/8": "loopback (RFC 1122)",
        "168.63.129.16/32": "a cloud's host services",
        "169.254.0.0/16": "link-local, metadata services (RFC 3927)",
        "172.16.0.0/12": "private (RFC 1918)",
        "192.0.0.0/24": "protocol assignments (RFC 6890)",
        "192.0.2.0/24": "documentation (RFC 5737)",
        "192.31.196.0/24": "DNS sinks (RFC 7535)",
        "192.52.193.0/24": "multicast relays (RFC 7450)",
        "192.88.99.0/24": "6to4 relays (RFC 7526)",
        "192.168.0.0/16": "private (RFC 1918)",
        "192.175.48.0/24": "DNS sinks (RFC 7534)",
        "198.18.0.0/15": "benchmarks (RFC 2544)",
        "198.51.100.0/24": "documentation (RFC 5737)",
        "203.0.113.0/24": "documentation (RFC 5737)",
        "224.0.0.0/4": "multicast (RFC 5771)",
        "240.0.0.0/4": "reserved, broadcast (RFC 1112)",
        "::/128": "unspecified (RFC 4291)",
        "::1/128": "loopback (RFC 4291)",
        "::ffff:0:0/96": "IPv4-mapped (RFC 4291)",
        "::ffff:0:0:0/96": "IPv4-translated (RFC 2765)",
        "::/96": "IPv4-compatible (RFC 4291)",
        "64:ff9b::/96": "NAT64 (RFC 6052)",
        "64:ff9b:1::/48": "NAT64 (RFC 8215)",
        "2001::/32": "Teredo (RFC 4380)",
        "2001:2::/48": "benchmarks (RFC 5180)",
        "2001::/23": "protocol assignments (RFC 2928)",
        "2001:db8::/32": "documentation (RFC 3849)",
        "2002::/16": "6to4 (RFC 3056)",
        "2620:4f:8000::/48": "DNS sinks (RFC 7534)",
        "3fff::/20": "documentation (RFC 9637)",
        "fc00::/7": "private (RFC 4193)",
        "fe80::/10": "link-local (RFC 4291)",
        "fec0::/10": "site-local (RFC 3879)",
        "ff00::/8": "multicast (RFC 4291)",
    }
)
"""Networks that no public server lives in, the more telling reason first."""

PUBLIC_IPV6: Final = IPv6Network("2000::/3")
"""All that is handed out as global unicast; the rest is reserved."""

_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


def reason_against(address: Address) -> str | None:
    """Why the address is not one of a public server, in a few words for the log; None if it is."""
    for network, reason in REFUSED:
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, IPv6Address):
        if address not in PUBLIC_IPV6:
            return "outside of global unicast (RFC 4291)"
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return "ISATAP (RFC 5214)"
    return None
