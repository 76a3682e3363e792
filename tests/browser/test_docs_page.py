"""The page at `/docs`, as a person meets it: it fills itself, filters, opens, and asks nobody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.webdriver import Browser, missing
from tests.support.server import ServerProcess
from transom.api.openapi import operation_ids
from transom.api.routes import routes_for
from transom.settings import Settings

ROUTES = routes_for(Settings())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this file."""
    if missing():
        reason = f"not installed: {', '.join(missing())}"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Browser:
    """The browser, with the page freshly open and filled."""
    browser.open("about:blank")
    browser.requests()
    browser.open(f"{server.url}/docs")
    browser.wait("return document.body.dataset.ready")
    return browser


def test_the_page_shows_every_endpoint(page: Browser) -> None:
    shown = page.run("return [...document.querySelectorAll('article')].map(each => each.id)")
    assert sorted(shown) == sorted(operation_ids(ROUTES).values())
    linked = page.run("return [...document.querySelectorAll('nav li a')].map(each => each.hash)")
    assert sorted(linked) == sorted(f"#{name}" for name in shown)


def test_the_page_asks_nobody_but_the_service(page: Browser, server: ServerProcess) -> None:
    asked = [url for url in page.requests() if not url.startswith("data:")]
    assert {f"{server.url}/docs", f"{server.url}/openapi.json"} == set(asked)


def test_the_page_raises_no_error_and_breaks_no_policy(page: Browser) -> None:
    page.click("nav a[href='#image_create']")
    assert page.console() == []


def test_search_keeps_what_holds_all_words(page: Browser) -> None:
    page.type("#search", "patch image")
    shown = "return [...document.querySelectorAll('article')].filter(e => !e.hidden).map(e => e.id)"
    assert page.run(shown) == ["image_update"]
    page.type("#search", " no-such-word")
    assert page.run(shown) == []
    assert page.run("return !document.querySelector('.nothing').hidden")


def test_search_finds_an_endpoint_by_a_parameter(page: Browser) -> None:
    page.type("#search", "x-image-meta-store")
    shown = "return [...document.querySelectorAll('article')].filter(e => !e.hidden).map(e => e.id)"
    assert "data_upload" in page.run(shown)


def test_a_link_opens_its_endpoint_with_fields_answers_and_an_example(page: Browser) -> None:
    page.click("nav a[href='#image_create']")
    text = page.wait(
        "const inside = document.querySelector('#image_create .inside');"
        "return inside && inside.innerText"
    )
    for expected in ("container_format", "201", "409", "www-authenticate", "add_image"):
        assert expected in text
    example = page.run("return document.querySelector('#image_create pre code').textContent")
    assert example.startswith("curl -X POST")
    assert "X-Auth-Token: $TOKEN" in example
    assert example.endswith("/v2/images")


def test_an_address_with_a_name_opens_that_endpoint(
    browser: Browser, server: ServerProcess
) -> None:
    browser.open("about:blank")
    browser.open(f"{server.url}/docs#data_download")
    browser.wait("return document.querySelector('#data_download details')?.open")
    assert browser.run("return document.querySelectorAll('article details[open]').length") == 1


def test_the_examples_run_as_they_are(page: Browser, server: ServerProcess) -> None:
    page.click("nav a[href='#version_list']")
    example = page.wait(
        "const code = document.querySelector('#version_list pre code');return code && code.textContent"
    )
    done = subprocess.run(
        ["bash", "-c", example.replace("curl", "curl --silent --show-error --noproxy '*'", 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert '"versions"' in done.stdout


def test_the_page_fits_a_narrow_window(
    server: ServerProcess, tmp_path: Path, browser: Browser
) -> None:
    # `browser` is asked for only to skip where there is none.
    with Browser(tmp_path, width=500, height=900) as narrow:
        narrow.open(f"{server.url}/docs#image_list")
        narrow.wait("return document.querySelector('#image_list .inside')")
        assert narrow.run("return document.documentElement.scrollWidth <= innerWidth")
