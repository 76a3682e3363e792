"""Errors: bodies, negotiation, headers, methods (errors.md, API §1, §24)."""

from __future__ import annotations

import json
import re
import uuid

import httpx
import pytest

from tests.conftest import MakeImage
from tests.support.raw_http import RawAnswer, exchange
from tests.support.server import Client, ServerProcess, told

GENERIC_404_HTML = (
    "<html>\n"
    " <head>\n"
    "  <title>404 Not Found</title>\n"
    " </head>\n"
    " <body>\n"
    "  <h1>404 Not Found</h1>\n"
    "  The resource could not be found.<br /><br />\n"
    "\n\n\n"
    " </body>\n"
    "</html>"
)
GENERIC_404_TEXT = "404 Not Found\n\nThe resource could not be found.\n\n   "
NOWHERE = "/v2/schema/images"
REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def asked(client: Client, path: str, accept: str | None) -> httpx.Response:
    """GET with exactly this Accept header, or none."""
    request = client.http.build_request("GET", path)
    if accept is None:
        del request.headers["accept"]
    else:
        request.headers["accept"] = accept
    return client.http.send(request)


class TestNegotiation:
    """The body follows the request's Accept."""

    def test_the_sample_is_154_bytes(self) -> None:
        assert len(GENERIC_404_HTML) == 154

    @pytest.mark.parametrize(
        "accept",
        [
            "*/*",
            "text/html",
            "text/html,application/json;q=0.9",
            "application/json, */*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/*",
        ],
    )
    def test_html_byte_for_byte(self, owner: Client, accept: str) -> None:
        answer = asked(owner, NOWHERE, accept)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "text/html; charset=UTF-8"
        assert answer.headers["content-length"] == "154"
        assert answer.text == GENERIC_404_HTML

    @pytest.mark.parametrize("accept", ["application/json", "application/json;q=0.5"])
    def test_json(self, owner: Client, accept: str) -> None:
        answer = asked(owner, NOWHERE, accept)
        assert answer.status_code == 404
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        document = answer.json()
        assert set(document) == {"message", "code", "title"}
        assert document["code"] == "404 Not Found", "a string with status and reason"
        assert document["title"] == "Not Found"
        assert document["message"].startswith("The resource could not be found.")

    @pytest.mark.parametrize("accept", [None, "", "text/plain", "application/xml", "image/png"])
    def test_text(self, owner: Client, accept: str | None) -> None:
        answer = asked(owner, NOWHERE, accept)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
        assert answer.text == GENERIC_404_TEXT

    def test_problem_details_when_asked_for(self, owner: Client) -> None:
        unknown = str(uuid.uuid4())
        answer = asked(owner, f"/v2/images/{unknown}", "application/problem+json")
        assert answer.status_code == 404
        assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
        document = answer.json()
        assert document["status"] == 404, "a number (RFC 9457)"
        assert document["title"]
        assert unknown in document["detail"]
        assert isinstance(document.get("type", "about:blank"), str)

    def test_junk_in_accept_never_breaks_an_error(self, owner: Client) -> None:
        for accept in (";;;", "a/b;q=x", "*/*;q=nan", ",", "/" * 200, "text/html;q=2", "é"):
            request = owner.http.build_request("GET", NOWHERE)
            request.headers["accept"] = accept
            assert owner.http.send(request).status_code == 404, accept

    def test_explanations_are_escaped_in_html(self, owner: Client) -> None:
        path = "/v2/images/%3Cscript%3Ealert('%22')%3C%2Fscript%3E&x"
        for encoded in (path.replace("%2F", ""), "/v2/images/%3Cb%3E"):
            answer = asked(owner, encoded, "*/*")
            assert answer.status_code == 404
            assert "<script>" not in answer.text
            assert "<b>" not in answer.text
        value = "<img src='x' onerror=\"alert(1)\">"
        answer = owner.post("/v2/images", json={"visibility": value})
        assert answer.status_code == 400
        assert "<img" not in answer.text

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [("*/*", "text/html"), ("application/json", "application/json"), (None, "text/plain")],
    )
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v2/images?limit=x", 400),
            ("POST", "/v2/images", 400),
            ("PUT", "/v2/images", 405),
            ("GET", f"/v2/images/{uuid.UUID(int=0)}", 404),
            ("PATCH", f"/v2/images/{uuid.UUID(int=0)}", 415),
            ("GET", "/v2/nowhere", 404),
        ],
    )
    def test_every_kind_of_error_is_negotiated(
        self,
        owner: Client,
        method: str,
        path: str,
        status: int,
        accept: str | None,
        kind: str,
    ) -> None:
        request = owner.http.build_request(method, path)
        if accept is None:
            del request.headers["accept"]
        else:
            request.headers["accept"] = accept
        answer = owner.http.send(request)
        assert answer.status_code == status, told(answer)
        assert answer.headers["content-type"].split(";")[0] == kind
        assert answer.headers["content-length"] == str(len(answer.content))
        reason = f"{status} {answer.reason_phrase}"
        if kind == "application/json":
            assert answer.json()["code"] == reason
        elif kind == "text/html":
            assert f"<title>{reason}</title>" in answer.text
            assert f"<h1>{reason}</h1>" in answer.text
        else:
            assert answer.text.startswith(f"{reason}\n\n")

    def test_errors_are_never_empty_and_never_traces(self, owner: Client) -> None:
        for accept in ("*/*", "application/json", ""):
            answer = owner.post(
                "/v2/images", content=b"{", headers={"Accept": accept, "X-Probe": "1"}
            )
            assert answer.status_code == 400
            assert answer.text
            assert "Traceback" not in answer.text
            assert ".py" not in answer.text


def listed_with(server: ServerProcess, *headers: bytes) -> RawAnswer:
    """The answer to a list that is asked for with these very header lines."""
    lines = (b"GET /v2/images HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", b"")
    answer = exchange(server.port, b"\r\n".join(lines))
    assert answer is not None
    return answer


class TestRequestIds:
    """`x-openstack-request-id` on every answer behind the token check."""

    def test_every_answer_carries_a_new_one(self, owner: Client, image: MakeImage) -> None:
        path = f"/v2/images/{image()['id']}"
        answers = [
            owner.get(path),
            owner.get("/v2/images"),
            owner.get("/v2/schemas/image"),
            owner.get(f"{path}/file"),
            owner.get("/v2/nowhere"),
            owner.get("/v2/images?limit=x"),
            owner.put("/v2/images"),
            owner.request("PATCH", path),
            owner.delete(path),
        ]
        ids = [answer.headers["x-openstack-request-id"] for answer in answers]
        assert all(REQUEST_ID.fullmatch(each) for each in ids), ids
        assert {uuid.UUID(each.removeprefix("req-")).version for each in ids} == {4}
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("req-abc", "req-abc"),
            ("abc", "req-abc"),
            (f"req-{uuid.UUID(int=7)}", f"req-{uuid.UUID(int=7)}"),
            ("req-" + "x" * 60, "req-" + "x" * 60),
        ],
    )
    @pytest.mark.parametrize("path", ["/v2/images?limit=1", "/v2/nowhere", "/v2/images?limit=x"])
    def test_the_caller_s_own_is_adopted(
        self, owner: Client, given: str, expected: str, path: str
    ) -> None:
        answer = owner.get(path, headers={"X-Openstack-Request-Id": given})
        assert answer.headers["x-openstack-request-id"] == expected

    @pytest.mark.parametrize("length", [100, 5000])
    def test_one_that_is_too_long_is_431(self, owner: Client, length: int) -> None:
        answer = owner.get("/v2/images", headers={"X-Openstack-Request-Id": "x" * length})
        assert answer.status_code == 431, told(answer)

    def test_one_with_strange_characters_splits_no_header(self, server: ServerProcess) -> None:
        answer = listed_with(server, b"X-Openstack-Request-Id: req-a\tb<script>\xff")
        assert answer.status in (400, 401, 431)
        assert "<script>" not in answer.body.decode(errors="replace")

    def test_the_first_of_several_counts(self, server: ServerProcess) -> None:
        answer = listed_with(server, b"X-Openstack-Request-Id: one", b"X-Openstack-Request-Id: two")
        assert answer.headers["x-openstack-request-id"] == "req-one"


ALLOWED = [
    ("/v2/images", "GET, POST"),
    ("/v2/images/{id}", "GET, PATCH, DELETE"),
    ("/v2/images/{id}/file", "GET, PUT"),
    ("/v2/images/{id}/actions/deactivate", "POST"),
    ("/v2/images/{id}/actions/reactivate", "POST"),
    ("/v2/images/{id}/tags/some", "PUT, DELETE"),
    ("/v2/images/{id}/members", "GET, POST"),
    ("/v2/images/{id}/members/some", "GET, PUT, DELETE"),
    ("/v2/schemas/image", "GET"),
    ("/v2/schemas/images", "GET"),
    ("/v2/schemas/member", "GET"),
    ("/v2/schemas/members", "GET"),
    ("/v2/info/import", "GET"),
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class TestMethods:
    """A known path with another method is 405 and tells what is allowed (API §24)."""

    @pytest.mark.parametrize(
        ("path", "method", "allow"),
        [
            (path, method, allow)
            for path, allow in ALLOWED
            for method in METHODS
            if method not in allow.split(", ")
        ],
    )
    def test_wrong_method(
        self, owner: Client, image: MakeImage, path: str, method: str, allow: str
    ) -> None:
        for image_id in (image()["id"], str(uuid.uuid4())):
            answer = owner.request(method, path.format(id=image_id))
            assert answer.status_code == 405, told(answer)
            told_methods = {each.strip() for each in answer.headers["allow"].split(",")}
            # HEAD on image data is ours on top of the table.
            assert told_methods - {"HEAD", "OPTIONS"} == set(allow.split(", "))
            assert f"The method {method} is not allowed for this resource." in answer.text

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
    def test_the_path_of_usage_is_unknown_to_other_methods(
        self, owner: Client, method: str
    ) -> None:
        answer = owner.request(method, "/v2/info/usage")
        unknown = owner.request(method, "/v2/info/nowhere")
        assert answer.status_code == unknown.status_code == 404, told(answer)
        assert answer.text == unknown.text
        assert "allow" not in answer.headers

    def test_method_that_nobody_knows(self, owner: Client) -> None:
        assert owner.request("BREW", "/v2/images").status_code in (405, 501)
        assert owner.request("BREW", "/v2/nowhere").status_code in (404, 501)

    @pytest.mark.parametrize("path", ["/v2/images", "/v2/images/{id}", "/v2/schemas/image"])
    def test_head_is_allowed_on_data_only(self, owner: Client, image: MakeImage, path: str) -> None:
        answer = owner.head(path.format(id=image()["id"]))
        assert answer.status_code == 405
        assert answer.content == b""

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/nowhere",
            "/v2/images/{id}/nowhere",
            "/v2/images/{id}/file/more",
            "/v2/images/{id}/actions",
            "/v2/images/{id}/tags",
            "/v2/images/{id}/members/a/b",
            "/v2/schemas",
            "/v2/schema/image",
            "/v2/info",
            "/v2/info/nowhere",
            "/v2/info/stores",
        ],
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_unknown_path(self, owner: Client, image: MakeImage, path: str, method: str) -> None:
        answer = owner.request(method, path.format(id=image()["id"]))
        assert answer.status_code == 404, told(answer)


def test_no_answer_gives_the_server_s_insides_away(owner: Client) -> None:
    for path in ("/v2/images?limit=x", "/v2/nowhere", "/v2/images"):
        server = owner.get(path).headers.get("server", "").lower()
        assert "python" not in server
        assert not re.search(r"\d+\.\d+", server), f"a version is in the Server header: {server}"


def test_json_answers_are_plain_utf8_json(owner: Client, image: MakeImage) -> None:
    answer = owner.get(f"/v2/images/{image(name='ü')['id']}")
    assert json.loads(answer.content.decode("utf-8"))["name"] == "ü"
