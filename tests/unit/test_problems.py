"""Every error has a status, and its body is the one that the client asked for (errors.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from transom import errors
from transom.api import problems
from transom.errors import ConfigurationError, PathNotFound, TransomError

BASE: dict[str, Any] = {
    "face": "image", "method": "GET", "request_id": "req-1", "www_authenticate": "Keystone",
}  # fmt: skip


def subclasses(kind: type[TransomError]) -> list[type[TransomError]]:
    below = [item for child in kind.__subclasses__() for item in subclasses(child)]
    return [kind, *below]


@pytest.mark.parametrize("kind", subclasses(TransomError)[1:], ids=lambda kind: kind.__name__)
def test_every_error_has_a_row_or_never_reaches_http(kind: type[TransomError]) -> None:
    has_row = any(parent in problems.STATUS for parent in kind.__mro__)
    assert has_row or issubclass(kind, ConfigurationError)


@pytest.mark.parametrize("kind", subclasses(TransomError)[1:], ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_is_complete(kind: type[TransomError]) -> None:
    assert f"─ {kind.__name__}" in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/html"), ("application/json, */*", "text/html"),
        ("text/html,application/json;q=0.9", "text/html"), ("application/json", "application/json"),
        ("application/json, text/plain", "application/json"),
        ("text/html;q=0.1, application/json", "application/json"), (None, "text/plain"),
        ("", "text/plain"), ("application/xml", "text/plain"),
        ("application/problem+json", "application/problem+json"),
        ("application/problem+json, application/json", "application/problem+json"),
        ("application/json;q=0", "text/plain"), ("text/*", "text/html"),
    ],
)  # fmt: skip
def test_the_body_follows_accept(accept: str | None, media_type: str) -> None:
    response = problems.answer(PathNotFound(), accept=accept, **BASE)
    assert response.headers["content-type"].partition(";")[0] == media_type


def test_the_generic_404_is_byte_for_byte_that_of_the_peer() -> None:
    response = problems.answer(PathNotFound(), accept="*/*", **BASE)
    assert len(response.body) == 154
    assert response.headers["content-type"] == "text/html; charset=UTF-8"
    text = problems.answer(PathNotFound(), accept=None, **BASE)
    assert text.body == b"404 Not Found\n\nThe resource could not be found.\n\n   "


def test_html_is_escaped() -> None:
    error = errors.ImageNotFound("<script>'&\"")
    body = bytes(problems.answer(error, accept="text/html", **BASE).body)
    assert b"&lt;script&gt;&#x27;&amp;&quot;" in body


def test_problem_details_carry_the_facts() -> None:
    error = errors.QuotaExceeded("image tags", 3, 4)
    response = problems.answer(error, accept="application/problem+json", **BASE)
    body = json.loads(bytes(response.body))
    assert body["status"] == 413
    assert body["limit"] == 3
    assert body["type"] == "urn:transom:error:QuotaExceeded"


def test_headers_that_errors_bring() -> None:
    def headers(error: TransomError, **more: str) -> Any:
        return problems.answer(error, accept="*/*", **(BASE | more)).headers

    assert headers(errors.Unauthenticated())["www-authenticate"] == "Keystone"
    assert headers(errors.MethodNotAllowed("PUT", ("GET", "POST")))["allow"] == "GET, POST"
    assert "v2.1-json-patch" in headers(errors.WrongPatchType("x"))["accept-patch"]
    assert headers(errors.RangeNotSatisfiable("no", 10))["content-range"] == "bytes */10"
    assert headers(errors.CatalogUnavailable())["retry-after"] == "5"
    forced = headers(errors.QuotaExceeded("tags", 1, 2), method="POST")
    assert forced["content-type"].startswith("text/plain")


def test_a_fault_of_ours_tells_nothing_of_the_inside() -> None:
    response = problems.answer(None, accept="application/json", **BASE)
    assert response.status_code == 500
    assert json.loads(bytes(response.body))["message"] == problems.UNEXPECTED
