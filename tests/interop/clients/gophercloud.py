"""gophercloud's conversation, request for request: what Terraform, Packer and Kubernetes send.

A replay of how gophercloud (v2 and the coming v3) logs in, finds the image service and uses it:
the same URLs built in the same way, the same headers and JSON, the same strict success codes, the
same demands on the types in an answer. Where Go's JSON decoder would give up, this fails too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx

_VERSION_IN_PATH = re.compile(r"v[0-9.]+/?")
_VERSION_ID = re.compile(r"^v?(?P<major>[0-9]+)(\.(?P<minor>[0-9]+))?$")
_RFC3339 = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$")
_STATUSES = {"CURRENT", "STABLE", "SUPPORTED", "DEPRECATED", "EXPERIMENTAL", ""}
_IDENTITY_STATUSES = {"current", "supported", "stable"}
_OK = {
    "GET": (200,),
    "HEAD": (200,),
    "POST": (201, 202),
    "PUT": (201, 202),
    "PATCH": (200, 202, 204),
    "DELETE": (202, 204),
}

STRING, INTEGER, BOOLEAN, STRINGS, TEXTS, TIME, NUMBER = (
    "string",
    "integer",
    "boolean",
    "[]string",
    "map[string]string",
    "time",
    "number",
)
IMAGE = {
    "id": STRING,
    "name": STRING,
    "status": STRING,
    "tags": STRINGS,
    "container_format": STRING,
    "disk_format": STRING,
    "min_disk": INTEGER,
    "min_ram": INTEGER,
    "owner": STRING,
    "protected": BOOLEAN,
    "visibility": STRING,
    "os_hidden": BOOLEAN,
    "checksum": STRING,
    "metadata": TEXTS,
    "properties": STRING,
    "created_at": TIME,
    "updated_at": TIME,
    "file": STRING,
    "schema": STRING,
    "virtual_size": INTEGER,
    "size": NUMBER,
}
"""The fields of gophercloud's Image and the Go types that JSON must fit."""
MEMBER = {
    "created_at": TIME,
    "image_id": STRING,
    "member_id": STRING,
    "schema": STRING,
    "status": STRING,
    "updated_at": TIME,
}
"""The fields of gophercloud's Member."""


class UnexpectedResponseCode(Exception):
    """gophercloud's ErrUnexpectedResponseCode: a status outside the codes that the call takes."""

    def __init__(self, method: str, url: str, expected: tuple[int, ...], answer: httpx.Response):
        super().__init__(
            f"Expected HTTP response code {list(expected)} when accessing [{method} {url}], "
            f"but got {answer.status_code} instead: {answer.text}"
        )
        self.actual = answer.status_code
        self.body = answer.content


def decode(document: Any, fields: dict[str, str]) -> dict[str, Any]:
    """The document, if Go's decoder would take it into a struct with these fields."""
    assert isinstance(document, dict), document
    fits = {
        STRING: lambda value: isinstance(value, str),
        INTEGER: lambda value: isinstance(value, int) and not isinstance(value, bool),
        NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        BOOLEAN: lambda value: isinstance(value, bool),
        STRINGS: lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
        TEXTS: lambda value: isinstance(value, dict) and all(map(str.__instancecheck__, value)),
        TIME: lambda value: isinstance(value, str) and _RFC3339.match(value) is not None,
    }
    for name, kind in fields.items():
        value = document.get(name)
        # Go leaves a field alone when JSON says null or nothing.
        assert value is None or fits[kind](value), f"{name}={value!r} does not decode into {kind}"
    return document


def normalize(url: str) -> str:
    """NormalizeURL: one slash at the end."""
    return url if url.endswith("/") else url + "/"


def base_endpoint(url: str, *, with_version: bool = False) -> str:
    """BaseEndpoint and BaseVersionedEndpoint: cut the path before or after its version."""
    parts = urlsplit(url)
    path = parts.path
    if found := _VERSION_IN_PATH.search(path):
        path = path[: found.end() if with_version else found.start()]
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class ProviderClient:
    """A ProviderClient and the image ServiceClient above it."""

    def __init__(self, identity_endpoint: str) -> None:
        self.identity_endpoint = normalize(identity_endpoint)
        self.identity_base = normalize(base_endpoint(identity_endpoint))
        self.token = ""
        self.catalog: list[dict[str, Any]] = []
        self.image = ""
        self.requests: list[str] = []
        self.http = httpx.Client(trust_env=False, timeout=30, headers={})
        # Go's transport sends these and no others on its own.
        self.http.headers = httpx.Headers({"Accept-Encoding": "gzip"})

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        raw: Any = None,
        ok: tuple[int, ...] | None = None,
        headers: dict[str, str] | None = None,
        anonymous: bool = False,
    ) -> httpx.Response:
        """ProviderClient.Request."""
        sent = {"Accept": "application/json", "User-Agent": "gophercloud/v2.7.0"}
        content = raw
        if body is not None:
            # Go marshals maps with sorted keys and without blanks.
            content = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        if self.token and not anonymous:
            sent["X-Auth-Token"] = self.token
        self.requests.append(f"{method} {urlsplit(url).path}")
        answer = self.http.request(method, url, content=content, headers=sent)
        expected = ok or _OK[method]
        if answer.status_code not in expected:
            raise UnexpectedResponseCode(method, url, expected, answer)
        return answer

    # --- logging in ------------------------------------------------------------------------------

    def choose_identity_version(self) -> str:
        """utils.ChooseVersion: the endpoint of the identity API's version 3."""
        for suffix in ("/v2.0/", "/v3/"):
            if self.identity_endpoint.endswith(suffix):
                return self.identity_endpoint
        document = self.request("GET", self.identity_base, ok=(200, 300)).json()
        for value in document["versions"]["values"]:
            hrefs = [link["href"] for link in value["links"] if link["rel"] == "self"]
            if "v3" in value["id"] and value["status"].lower() in _IDENTITY_STATUSES:
                return normalize(hrefs[-1])
        raise AssertionError(f"no supported version available from {self.identity_base}")

    def authenticate(self, identity: dict[str, Any], scope: dict[str, Any] | None) -> None:
        """openstack.Authenticate: version, token, catalog."""
        endpoint = self.choose_identity_version()
        auth: dict[str, Any] = {"identity": identity}
        if scope:
            auth["scope"] = scope
        answer = self.request("POST", f"{endpoint}auth/tokens", body={"auth": auth}, anonymous=True)
        self.token = answer.headers["X-Subject-Token"]
        assert self.token
        decode(answer.json()["token"], {"expires_at": TIME, "issued_at": TIME})
        self.catalog = answer.json()["token"].get("catalog", [])

    def find_image_service(self, region: str = "") -> None:
        """openstack.NewImageV2: the endpoint of the catalog that speaks version 2."""
        for entry in self.catalog:
            if entry["type"] != "image":
                continue
            for endpoint in entry["endpoints"]:
                if endpoint["interface"] != "public":
                    continue
                if region and region not in (endpoint["region"], endpoint["region_id"]):
                    continue
                url = normalize(endpoint["url"])
                if 2 in self.major_versions(base_endpoint(url, with_version=True)):
                    self.image = url + "v2/"
                    return
        raise AssertionError("No suitable endpoint could be found in the service catalog.")

    def major_versions(self, url: str) -> set[int]:
        """utils.GetServiceVersions: from the URL if it says so, else from the document there."""
        last = urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]
        if found := _VERSION_ID.match(last):
            return {int(found["major"])}
        versions = self.request("GET", url, ok=(200, 300)).json()["versions"]
        if isinstance(versions, dict):
            versions = versions["values"]
        majors = set()
        for version in versions:
            found = _VERSION_ID.match(version["id"])
            assert found, f"invalid format: {version['id']!r}"
            assert version["status"].upper() in _STATUSES, version
            majors.add(int(found["major"]))
        return majors

    # --- images ----------------------------------------------------------------------------------

    def create(self, **options: Any) -> dict[str, Any]:
        """images.Create; null options are left out, as Go's omitempty does."""
        body = {name: value for name, value in options.items() if value}
        answer = self.request("POST", f"{self.image}images", body=body, ok=(201,))
        return decode(answer.json(), IMAGE)

    def get(self, image_id: str) -> dict[str, Any]:
        """images.Get."""
        return decode(self.request("GET", f"{self.image}images/{image_id}").json(), IMAGE)

    def update(self, image_id: str, patches: list[dict[str, Any]]) -> dict[str, Any]:
        """images.Update."""
        answer = self.request(
            "PATCH",
            f"{self.image}images/{image_id}",
            body=patches,
            ok=(200,),
            headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        )
        return decode(answer.json(), IMAGE)

    def delete(self, image_id: str) -> None:
        """images.Delete."""
        self.request("DELETE", f"{self.image}images/{image_id}")

    def pages(self, **query: Any) -> Iterator[list[dict[str, Any]]]:
        """images.List, page by page; `next` is joined to the base of the URL that was asked."""
        url = f"{self.image}images"
        if query:
            url += f"?{urlencode(query, doseq=True)}"
        while url:
            document = self.request("GET", url).json()
            images = [decode(image, IMAGE) for image in document["images"]]
            if not images:
                return
            yield images
            following = document.get("next", "")
            if not following:
                return
            parts = urlsplit(following)
            base = normalize(base_endpoint(url))
            url = f"{base}{parts.path.removeprefix('/')}?{parts.query}"

    def upload(self, image_id: str, data: Any) -> None:
        """imagedata.Upload; bytes go with a length, an iterator goes chunked."""
        self.request(
            "PUT",
            f"{self.image}images/{image_id}/file",
            raw=data,
            ok=(204,),
            headers={"Content-Type": "application/octet-stream"},
        )

    def download(self, image_id: str) -> bytes:
        """imagedata.Download."""
        return self.request("GET", f"{self.image}images/{image_id}/file").content

    # --- members ---------------------------------------------------------------------------------

    def add_member(self, image_id: str, member: str) -> dict[str, Any]:
        """members.Create."""
        answer = self.request(
            "POST", f"{self.image}images/{image_id}/members", body={"member": member}, ok=(200,)
        )
        return decode(answer.json(), MEMBER)

    def members(self, image_id: str) -> list[dict[str, Any]]:
        """members.List."""
        document = self.request("GET", f"{self.image}images/{image_id}/members").json()
        return [decode(member, MEMBER) for member in document["members"]]

    def member(self, image_id: str, member: str) -> dict[str, Any]:
        """members.Get."""
        answer = self.request("GET", f"{self.image}images/{image_id}/members/{member}", ok=(200,))
        return decode(answer.json(), MEMBER)

    def update_member(self, image_id: str, member: str, status: str) -> dict[str, Any]:
        """members.Update."""
        answer = self.request(
            "PUT",
            f"{self.image}images/{image_id}/members/{member}",
            body={"status": status},
            ok=(200,),
        )
        return decode(answer.json(), MEMBER)

    def remove_member(self, image_id: str, member: str) -> None:
        """members.Delete."""
        self.request("DELETE", f"{self.image}images/{image_id}/members/{member}", ok=(204,))

    # --- tokens ----------------------------------------------------------------------------------

    def validate(self, token: str) -> bool:
        """tokens.Validate."""
        answer = self.request(
            "HEAD",
            f"{self.choose_identity_version()}auth/tokens",
            ok=(200, 204, 404),
            headers={"X-Subject-Token": token},
        )
        return answer.status_code != 404

    def token_facts(self, token: str) -> dict[str, Any]:
        """tokens.Get."""
        answer = self.request(
            "GET",
            f"{self.choose_identity_version()}auth/tokens",
            ok=(200, 203),
            headers={"X-Subject-Token": token},
        )
        facts: dict[str, Any] = answer.json()["token"]
        return facts

    def revoke(self, token: str) -> None:
        """tokens.Revoke."""
        self.request(
            "DELETE",
            f"{self.choose_identity_version()}auth/tokens",
            headers={"X-Subject-Token": token},
        )
