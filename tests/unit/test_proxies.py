"""Forwarded headers count only from proxies that the operator named."""

from __future__ import annotations

import pytest

from transom.api.proxies import TrustedProxies

FORWARDED = {
    "host": "inside:9292",
    "x-forwarded-proto": "https, http",
    "x-forwarded-host": "images.example.org",
    "x-forwarded-prefix": "/image/",
}


def base_url(client: str, trusted: tuple[str, ...], headers: dict[str, str] | None = None) -> str:
    scope = {"scheme": "http", "server": ("10.0.0.1", 9292), "client": (client, 1), "root_path": ""}
    return TrustedProxies(trusted).base_url(scope, headers or FORWARDED)


def test_a_trusted_proxy_tells_what_the_client_used() -> None:
    assert base_url("10.1.2.3", ("10.0.0.0/8",)) == "https://images.example.org/image"
    assert base_url("::1", ("::1",)) == "https://images.example.org/image"


def test_anybody_else_is_not_believed() -> None:
    assert base_url("10.1.2.3", ()) == "http://inside:9292"
    assert base_url("192.0.2.1", ("10.0.0.0/8",)) == "http://inside:9292"
    assert base_url("", ("10.0.0.0/8",)) == "http://inside:9292"


def test_nonsense_from_a_trusted_proxy_is_left_out() -> None:
    headers = {
        "host": "inside",
        "x-forwarded-proto": "javascript",
        "x-forwarded-host": "a b",
        "x-forwarded-prefix": "no-slash",
    }
    assert base_url("10.0.0.9", ("10.0.0.9",), headers) == "http://inside"


def test_without_a_host_header_the_address_stands() -> None:
    assert base_url("10.0.0.9", (), {"x": "y"}) == "http://10.0.0.1:9292"


@pytest.mark.parametrize(
    ("client", "trusted", "forwarded", "found"),
    [
        ("192.0.2.1", (), "", "192.0.2.1"),
        ("192.0.2.1", (), "198.51.100.7", "192.0.2.1"),
        ("192.0.2.1", ("10.0.0.0/8",), "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", ("10.0.0.0/8",), "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", ("10.0.0.0/8",), "", "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.0/8",), "made-up, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", ("10.0.0.0/8",), "made-up, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.1", ("10.0.0.0/8",), "10.3.3.3,10.9.9.9", "10.3.3.3"),
        ("10.0.0.1", ("10.0.0.0/8",), "198.51.100.7,", "10.0.0.1"),
        ("::1", ("::1",), "2001:db8::7", "2001:db8::7"),
    ],
)
def test_a_client_is_the_nearest_that_nobody_vouches_for(
    client: str, trusted: tuple[str, ...], forwarded: str, found: str
) -> None:
    named = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (client, 1), "headers": named}
    assert TrustedProxies(trusted).client_address(scope) == found


def test_several_headers_are_read_as_one() -> None:
    raw = [(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-for", b"10.0.0.2")]
    proxies = TrustedProxies(("10.0.0.0/8",))
    assert proxies.client_address({"client": ("10.0.0.1", 1), "headers": raw}) == "198.51.100.7"
    assert proxies.client_address({"headers": raw}) == ""
