"""The guard before URLs: every spelling, every range, every rule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from transom.errors import ConfigurationError, UrlRefused
from transom.remote.addresses import REFUSED, reason_against
from transom.remote.guard import Guard
from transom.remote.proxy import Proxy
from transom.settings import Imports, Settings, load

PUBLIC = "93.184.215.14"


class Names:
    """A resolver of the test's own: gives the answers of a name in turn, the last one for ever."""

    def __init__(self, **answers: list[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): found for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self.answers.get(host)
        if found is None:
            raise OSError("no such name")
        return found.pop(0) if len(found) > 1 else found[0]


def guard(names: Names | None = None, **imports: Any) -> Guard:
    return Guard.open(Settings(imports=Imports(**imports)), resolver=names or Names())


# --- spellings ---


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTP://EXAMPLE.org/A%20b?c=d#e", "http://example.org/A%20b?c=d"),
        ("http://example.org./x", "http://example.org/x"),
        ("http://example.org:80/x", "http://example.org/x"),
        ("http://example.org:/x", "http://example.org/x"),
        ("https://example.org:443?q", "https://example.org/?q"),
        ("http://b\u00fccher.example/\u00fc", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://93.184.215.14/x", "http://93.184.215.14/x"),
        ("http://[2606:2800:021f:0000::1]/x", "http://[2606:2800:21f::1]/x"),
        ("http://0x7f.example/x", "http://0x7f.example/x"),
        ("http://a_b.example/@:x", "http://a_b.example/@:x"),
    ],
)
def test_a_url_is_read_in_one_way(url: str, normal: str) -> None:
    assert guard().check(url).url == normal


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1",
        "127.0.0.01", "127.0.0.0x1", "1.2.3.4.5", "256.1.1.1", "0x", "3627734734", "93.184.55054",
        "[::ffff:127.0.0.1]", "[::ffff:93.184.215.14]", "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:7f00:1]",
        "[fe80::1%25eth0]", "[fe80::1%eth0]", "[v1.x]", "[::1", "::1", "[]", "[127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
        "127.0.0.1.", "127.0.0.1%2eexample.org", "example.org%00.example.org", "",
        ".", "..", "a..b", "-a.example", "a" * 64 + ".example", "a." * 127 + "abc",
        "user@example.org", "user:secret@example.org", "@example.org", "example.org@127.0.0.1",
        "example.org:0", "example.org:65536", "example.org:8o", "example.org:+80", "example.org:80:80",
        "[2606:2800:21f::1]80", "exa mple.org", "example.org\t", "example.org\\@127.0.0.1",
        "example.org\r\nHost: x", "\u2100.example\u2215", "localhost", "LOCALHOST.", "a.localhost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_or_port_in_an_unusual_spelling_is_refused(scheme: str, host: str) -> None:
    with pytest.raises(UrlRefused):
        guard(allowed_ports=()).check(f"{scheme}://{host}/x")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org/x", "//example.org/x", "http:example.org", "http:/example.org/x",
        "http:///x", "file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/x",
        "swift+config://x/y", "data:,x", "http://example.org/" + "a" * 9000, " http://example.org/",
    ],
    ids=lambda url: url[:30] or "empty",
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        guard(allowed_schemes=(), allowed_ports=()).check(url)


# --- ranges ---


@pytest.mark.parametrize("edge", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("network", [str(network) for network, _ in REFUSED])
async def test_every_special_range_is_refused_as_text_and_as_an_answer(
    network: str, edge: int
) -> None:
    found = next(known for known, _ in REFUSED if str(known) == network)[edge]
    host = f"[{found}]" if found.version == 6 else str(found)
    with pytest.raises(UrlRefused):
        guard().check(f"http://{host}/x")

    judge = guard(Names(inside_example=[[str(found)]]))
    with pytest.raises(UrlRefused):
        await judge.resolve(judge.check("http://inside.example/x"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.100.100.200",
        "168.63.129.16", "0.0.0.0", "255.255.255.255", "239.1.1.1", "198.18.0.1", "192.0.0.192",
        "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1", "2001:0:7f00:1::", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "::10.0.0.1",
        "2001:db8::1", "3fff::1", "fec0::1", "100::1", "5f00::1", "4000::1", "2606:4700::5efe:a00:1",
        "2606:4700::200:5efe:a00:1",
    ],
)  # fmt: skip
def test_an_address_of_no_public_server_has_a_reason_against_it(address: str) -> None:
    assert reason_against(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "1.1.1.1", "172.32.0.1", "192.0.1.1", "100.128.0.1", "169.253.255.255",
     "223.255.255.255", "11.0.0.1", "126.255.255.255", "128.0.0.1", "2606:2800:21f::1", "2a00::1",
     "2001:200::1", "2003::1", "2620:4f:8001::1"],
)  # fmt: skip
def test_nothing_speaks_against_a_public_address(address: str) -> None:
    assert reason_against(ip_address(address)) is None


# --- rules ---


@pytest.mark.parametrize(
    ("imports", "good", "bad"),
    [
        ({}, ["http://a.example/", "https://a.example/"], ["http://a.example:8080/"]),
        ({"allowed_schemes": ("https",)}, ["https://a.example/"], ["http://a.example/"]),
        ({"allowed_ports": (443,)}, ["https://a.example/", "http://a.example:443/"],
         ["http://a.example/", "http://a.example:80/"]),
        ({"allowed_ports": ()}, ["http://a.example:1/", "http://a.example:65535/"], []),
        ({"allowed_hosts": ("A.example.",)}, ["http://a.example/", "http://a.EXAMPLE./"],
         ["http://b.example/", "http://b.a.example/", "http://93.184.215.14/"]),
        ({"allowed_hosts": ("10.1.0.0/16", "fd00::/8")}, ["http://10.1.2.3/", "http://[fd00::1]/"],
         ["http://10.2.0.1/", "http://93.184.215.14/", "http://[fe80::1]/", "http://localhost/"]),
        ({"allowed_hosts": ("127.0.0.1",)}, ["http://127.0.0.1/", "http://localhost/"],
         ["http://127.0.0.2/", "http://[::1]/", "http://2130706433/"]),
        ({"allowed_hosts": ("localhost",)}, ["http://localhost/"], ["http://127.0.0.1/"]),
        ({"allowed_hosts": ("*", "10.0.0.1")}, ["http://10.0.0.1/", "http://93.184.215.14/"],
         ["http://10.0.0.2/", "http://127.0.0.1/"]),
        ({"disallowed_hosts": ("a.example", "93.184.0.0/16")}, ["http://b.example/"],
         ["http://a.example/", "http://A.EXAMPLE./", "http://93.184.215.14/"]),
        # An allow list makes the deny list void (API §10.4).
        ({"allowed_hosts": ("a.example",), "disallowed_hosts": ("a.example",)},
         ["http://a.example/"], ["http://b.example/"]),
        # But what `*` lets in is denied.
        ({"allowed_hosts": ("*", "c.example"), "disallowed_hosts": ("a.example", "c.example")},
         ["http://b.example/", "http://c.example/"], ["http://a.example/"]),
    ],
    ids=["defaults", "schemes", "ports", "all ports", "names", "networks", "address",
         "this machine", "public and one", "denied", "void", "denied of all"],
)  # fmt: skip
def test_the_lists_say_what_is_read(
    imports: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    judge = guard(**imports)
    for url in good:
        judge.check(url)
    for url in bad:
        with pytest.raises(UrlRefused):
            judge.check(url)


async def test_a_name_is_allowed_by_the_network_of_its_address() -> None:
    names = Names(a_example=[["10.1.0.7"]], b_example=[["10.2.0.7"]], c_example=[[PUBLIC]])
    judge = guard(names, allowed_hosts=("10.1.0.0/16",))
    assert await judge.resolve(judge.check("http://a.example/")) == (ip_address("10.1.0.7"),)
    for name in ("b", "c"):
        with pytest.raises(UrlRefused):
            await judge.resolve(judge.check(f"http://{name}.example/"))


async def test_a_host_that_is_named_may_be_anywhere() -> None:
    judge = guard(Names(a_example=[["127.0.0.1", "fd00::1"]]), allowed_hosts=("a.example",))
    assert len(await judge.resolve(judge.check("http://a.example/"))) == 2


async def test_a_denied_name_is_refused_at_its_public_address_and_not_at_an_allowed_one() -> None:
    names = Names(a_example=[[PUBLIC], ["10.0.0.1"]])
    judge = guard(names, allowed_hosts=("*", "10.0.0.0/8"), disallowed_hosts=("a.example",))
    with pytest.raises(UrlRefused):
        await judge.resolve(judge.check("http://a.example/"))
    assert await judge.resolve(judge.check("http://a.example/")) == (ip_address("10.0.0.1"),)


async def test_only_the_good_ones_of_several_addresses_are_dialled() -> None:
    judge = guard(Names(a_example=[["127.0.0.1", PUBLIC, PUBLIC, "::1", "fe80::1%2"]]))
    assert await judge.resolve(judge.check("http://a.example/")) == (ip_address(PUBLIC),)


async def test_an_address_is_not_looked_up() -> None:
    names = Names()
    judge = guard(names)
    assert await judge.resolve(judge.check(f"http://{PUBLIC}/")) == (ip_address(PUBLIC),)
    assert names.asked == []


async def test_a_name_server_that_says_nothing_is_not_waited_for() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    imports = Imports(connect_timeout_seconds=0.05)
    judge = Guard.open(Settings(imports=imports), resolver=silent)
    with pytest.raises(TimeoutError):
        await judge.resolve(judge.check("http://a.example/"))


async def test_the_operators_own_catalogue_may_name_an_origin_and_only_that() -> None:
    judge = guard().vouching_for("http://10.0.0.5:9292/v2/images")
    assert judge.check("http://10.0.0.5:9292/v2/images/x/file").vouched
    for url in ("http://10.0.0.5/x", "https://10.0.0.5:9292/x", "http://10.0.0.6:9292/x"):
        with pytest.raises(UrlRefused):
            judge.check(url)


# --- redirects ---


@pytest.mark.parametrize(
    ("location", "good"),
    [
        ("/y", True), ("z?q", True), ("//b.example/y", True), ("https://b.example/", True),
        ("http://a.example/y", False), ("https://127.0.0.1/", False), ("https://a.example:8443/", False),
        ("https://u:p@b.example/", False), ("file:///etc/passwd", False), ("//[::1/", False),
        ("//[::ffff:127.0.0.1]/", False), ("https://169.254.169.254/latest/", False),
    ],
)  # fmt: skip
def test_a_redirect_is_judged_like_a_url_and_never_leaves_tls(location: str, good: bool) -> None:
    judge = guard()
    source = judge.check("https://a.example/x")
    if good:
        judge.check_redirect(source, location)
        return
    with pytest.raises(UrlRefused):
        judge.check_redirect(source, location)


def test_a_redirect_may_go_over_to_tls() -> None:
    judge = guard()
    source = judge.check("http://a.example/x")
    assert judge.check_redirect(source, "https://a.example/x").scheme == "https"


# --- what is told ---


def test_every_refusal_reads_the_same_and_has_no_facts() -> None:
    told = set()
    for url in ("http://127.0.0.1/", "http://a.example:22/", "ftp://x", "http://u@a.example/"):
        with pytest.raises(UrlRefused) as refused:
            guard().check(url)
        told.add(str(refused.value))
        assert vars(refused.value) == {}
    assert len(told) == 1


# --- configuration ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allowed_schemes", ["ftp"]), ("allowed_ports", [0]), ("allowed_ports", [65536]),
        ("allowed_hosts", ["http://a.example"]), ("allowed_hosts", ["a.example:80"]),
        ("allowed_hosts", ["10.0.0.0/33"]), ("allowed_hosts", ["127.1"]), ("allowed_hosts", ["*.a"]),
        ("disallowed_hosts", ["*"]), ("disallowed_hosts", [""]), ("proxy", "proxy:3128"),
        ("proxy", "socks5://proxy:1080"), ("proxy", "https://proxy:3128"), ("proxy", "http://proxy"),
        ("read_timeout_seconds", 0), ("parallel_ranges", 0),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_at_start(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"imports.{key}"):
        load(flags={f"imports.{key}": value})


def test_the_proxys_password_is_not_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        load(flags={"imports.proxy": "ftp://user:secret@proxy:1"})
    assert "secret" not in str(wrong.value)


# --- proxies ---


def test_the_proxy_of_the_configuration_is_for_everything() -> None:
    judge = guard(proxy="http://us%40er:p%3Aw@[::1]:3128")
    proxy = judge.proxy_for(judge.check("http://a.example/"))
    assert proxy == Proxy(host="::1", port=3128, authorization="Basic dXNAZXI6cDp3")


def test_the_proxies_of_the_environment_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "all_proxy", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert guard().proxy_for(guard().check("https://a.example/")) is None
    judge = guard(proxy="environment")
    assert judge.proxy_for(judge.check("http://a.example/")) is None
    assert judge.proxy_for(judge.check("https://b.inside.example/")) is None
    found = judge.proxy_for(judge.check("https://a.example/"))
    assert found == Proxy(host="proxy.example", port=3128)
