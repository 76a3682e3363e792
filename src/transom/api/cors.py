"""Browsers of other origins, where the operator allows them (errors.md §3)."""

from __future__ import annotations

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from transom.settings import Settings

METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH")
REQUEST_HEADERS: Final = (
    "Content-MD5", "X-Image-Meta-Checksum", "X-Storage-Token", "Accept-Encoding", "X-Auth-Token",
    "X-Identity-Status", "X-Roles", "X-Service-Catalog", "X-User-Id", "X-Tenant-Id",
    "X-OpenStack-Request-ID", "Content-Type", "Range", "If-Range", "If-Match", "If-None-Match",
    "X-Image-Meta-Store", "X-OpenStack-Image-Size", "X-Service-Token", "X-Subject-Token",
    "X-Openstack-Append",
)  # fmt: skip
"""What a browser may send: Glance's list, and what else the API reads."""

ANSWER_HEADERS: Final = (
    "X-Image-Meta-Checksum", "X-Auth-Token", "X-Subject-Token", "X-Service-Token",
    "X-OpenStack-Request-ID", "Location", "Content-MD5", "Content-Range", "ETag", "Accept-Ranges",
    "OpenStack-image-import-methods", "OpenStack-image-store-ids", "Retry-After",
)  # fmt: skip
"""What a page may read of an answer: Glance's list, and what else the API sends."""

MAX_AGE_SECONDS: Final = 3600


def with_cors(application: ASGIApp, settings: Settings) -> ASGIApp:
    """The application, which answers pages of the allowed origins too. Tokens go in a header, never
    in a cookie, so no credentials are asked for."""
    origins = settings.server.cors_allowed_origins
    if not origins:
        return application
    return CORSMiddleware(
        application,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
        max_age=MAX_AGE_SECONDS,
    )
