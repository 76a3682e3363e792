"""Versions and microversions of the Compute API (compute view §1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import RedirectResponse, Response

from transom.api.call import Call, json_response
from transom.api.compute.views import compute_base
from transom.errors import InvalidHeader, PathNotFound, VersionNotAcceptable

Version = tuple[int, int]

OLDEST: Final[Version] = (2, 1)
NEWEST: Final[Version] = (2, 35)
"""The newest microversion announced: the last one in which Nova had its image proxy."""

METADATA_NEWEST: Final[Version] = (2, 38)
"""The metadata of images lived a little longer."""

KNOWN: Final[Version] = (2, 104)
"""Microversions that Nova knows; between `NEWEST` and this one the view is gone, not unknown."""

_NUMBER: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})", re.ASCII)
_ENTRIES: Final = (
    ("v2.0", "v2", "SUPPORTED", "", "", "2011-01-21T11:33:21Z", "2"),
    ("v2.1", "v2.1", "CURRENT", "2.35", "2.1", "2013-07-23T11:33:21Z", "2.1"),
)


def asked_version(headers: Mapping[str, str]) -> Version:
    """The microversion that a request asks for.

    Raises InvalidHeader for one that is no version, VersionNotAcceptable for one outside of all
    that ever were.
    """
    text = None
    for item in headers.get("openstack-api-version", "").split(","):
        service, _, asked = item.strip().partition(" ")
        if service.lower() == "compute":
            text = asked.strip()
    text = text or headers.get("x-openstack-nova-api-version")
    if text is None:
        return OLDEST
    if text.lower() == "latest":
        return NEWEST
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise InvalidHeader("OpenStack-API-Version", f"'{text:.40}' is not a version like 2.1")
    version = (int(match[1]), int(match[2]))
    if not OLDEST <= version <= KNOWN:
        raise VersionNotAcceptable(text, "2.1", "2.35")
    return version


def check_version(call: Call, newest: Version) -> None:
    """Read the microversion of a `/v2.1` request into the call; the view ends with `newest`.

    Raises PathNotFound above it, as Nova does.
    """
    if call.version == "v2":
        return
    version = asked_version(call.headers)
    call.microversion = f"{version[0]}.{version[1]}"
    if version > newest:
        raise PathNotFound


def _entry(call: Call, row: tuple[str, ...]) -> dict[str, Any]:
    name, path, status, version, version_min, updated, _ = row
    return {
        "id": name,
        "status": status,
        "version": version,
        "min_version": version_min,
        "updated": updated,
        "links": [{"rel": "self", "href": f"{compute_base(call)}/{path}/"}],
    }


async def version_list(call: Call) -> Response:
    """`GET /` of the compute endpoint."""
    return json_response({"versions": [_entry(call, row) for row in _ENTRIES]})


async def version_show(call: Call) -> Response:
    """`GET /v2/` and `GET /v2.1/` of the compute endpoint."""
    row = next(row for row in _ENTRIES if row[1] == call.version)
    entry = _entry(call, row)
    entry["links"].append(
        {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}
    )
    entry["media-types"] = [
        {
            "base": "application/json",
            "type": f"application/vnd.openstack.compute+json;version={row[6]}",
        }
    ]
    return json_response({"version": entry})


async def version_redirect(call: Call) -> Response:
    """`GET /v2` and `GET /v2.1` of the compute endpoint: to the slash form."""
    return RedirectResponse(f"{compute_base(call)}/{call.version}/", 302)


def version_choices(call: Call, rest: str) -> Response:
    """Any other first segment: the versions under which the path may be found."""
    choices = [
        {
            "id": row[0],
            "status": row[2],
            "links": [{"rel": "self", "href": f"{compute_base(call)}/{row[1]}/{rest}"}],
            "media-types": [
                {
                    "base": "application/json",
                    "type": f"application/vnd.openstack.compute+json;version={row[6]}",
                }
            ],
        }
        for row in _ENTRIES
    ]
    return json_response({"choices": choices}, 300)
