"""The options of an S3 store: the keys of `[stores.NAME]` that only this driver knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import msgspec

from transom.errors import ConfigurationError
from transom.settings import StoreSettings
from transom.stores.buckets import MIB, prefix_option, transfer_options
from transom.stores.options import (
    choice_option,
    count_option,
    flag_option,
    refuse_unknown_options,
    text_option,
)

_LINK_SECONDS_MOST = 7 * 24 * 3600
"""Longer lives of presigned URLs are refused by S3 servers."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")

Addressing = Literal["auto", "path", "virtual"]


class S3Options(msgspec.Struct, frozen=True, kw_only=True):
    """What an S3 store is told. Sizes are bytes, times are seconds."""

    bucket: str
    """The bucket, which has to exist."""
    prefix: str = ""
    """What all keys begin with; ends with a slash, or is empty."""
    endpoint_url: str = ""
    """Where the server is; empty: Amazon's, in `region`."""
    region: str = ""
    """Empty: what the environment or the profile says, with an `endpoint_url` us-east-1."""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    """Empty, all three: from the environment, the shared credentials file, or the machine's role."""
    profile: str = ""
    """A profile of the shared credentials file."""
    addressing: Addressing = "auto"
    """Where the bucket stands: in the `path` or, `virtual`, in the host name."""
    verify: bool = True
    """Check the certificate of the server."""
    ca_file: str = ""
    """Certificates (PEM) of the authorities to trust. Empty: the system's."""
    part_size_bytes: int = 8 * MIB
    parallel_parts: int = 4
    """Parts of one object on their way at a time, at most."""
    connect_timeout_seconds: float = 5.0
    timeout_seconds: float = 60.0
    """How long a server may keep silent in the middle of an exchange."""
    retries_max: int = 5
    """How often a request is repeated, at most."""
    signs_payload: bool | None = None
    """Have the server check each request against the SHA-256 of its body. None: without TLS."""
    redirect: bool = False
    """Send those who download to the server itself, with a presigned URL."""
    redirect_seconds: int = 300
    """How long such a URL is good for."""
    redirect_endpoint_url: str = ""
    """Where clients reach the server, if elsewhere than Transom does."""

    @property
    def has_tls(self) -> bool:
        """True when requests go through TLS."""
        return not self.endpoint_url.lower().startswith("http://")

    @property
    def is_payload_signed(self) -> bool:
        """True when the signature of a request covers the SHA-256 of its body."""
        return not self.has_tls if self.signs_payload is None else self.signs_payload


KEYS = (
    "endpoint_url", "bucket", "region", "prefix", "access_key", "secret_key", "session_token",
    "profile", "addressing", "verify", "ca_file", "part_size_bytes", "parallel_parts",
    "connect_timeout_seconds", "timeout_seconds", "retries_max", "sign_payload", "redirect",
    "redirect_seconds", "redirect_endpoint_url",
)  # fmt: skip


def read_options(name: str, settings: StoreSettings) -> S3Options:
    """The options of a store, checked. Raises ConfigurationError."""
    refuse_unknown_options(name, settings, KEYS)
    if settings.path:
        raise ConfigurationError(
            f"stores.{name}.path = {settings.path!r}: objects in a bucket have no folder; use prefix."
        )

    def text(key: str, *, right: str = "") -> str:
        return text_option(name, settings, key, right=right)

    sign = choice_option(name, settings, "sign_payload", ("auto", "true", "false"), "auto")
    options = S3Options(
        bucket=text("bucket", right="the name of a bucket that exists"),
        prefix=prefix_option(name, settings),
        endpoint_url=text("endpoint_url").rstrip("/"),
        region=text("region"),
        access_key=text("access_key"),
        secret_key=text("secret_key"),
        session_token=text("session_token"),
        profile=text("profile"),
        addressing=cast(
            "Addressing",
            choice_option(name, settings, "addressing", ("auto", "path", "virtual"), "auto"),
        ),
        ca_file=text("ca_file"),
        signs_payload={"auto": None, "true": True, "false": False}[sign],
        redirect=flag_option(name, settings, "redirect", default=False),
        redirect_seconds=count_option(
            name, settings, "redirect_seconds", 300, least=1, most=_LINK_SECONDS_MOST
        ),
        redirect_endpoint_url=text("redirect_endpoint_url").rstrip("/"),
        **transfer_options(name, settings),
    )
    _check(name, options)
    return options


def _check(name: str, options: S3Options) -> None:
    if not _BUCKET.fullmatch(options.bucket):
        raise ConfigurationError(
            f"stores.{name}.bucket = {options.bucket!r}: give the name of a bucket alone."
        )
    for key in ("endpoint_url", "redirect_endpoint_url"):
        url = urlsplit(getattr(options, key))
        if url.geturl() and (
            url.scheme not in ("http", "https")
            or not url.hostname
            or "@" in url.netloc
            or url.query
            or url.fragment
        ):
            # The value may hold a password, so it is not repeated.
            raise ConfigurationError(
                f"stores.{name}.{key}: give http://host:port or https://host:port, without a user, "
                "a password or a query."
            )
    if bool(options.access_key) != bool(options.secret_key):
        raise ConfigurationError(
            f"stores.{name}.access_key and secret_key go together: set both, or neither to take "
            "them from the environment, the shared credentials file or the machine's role."
        )
    if options.ca_file and not Path(options.ca_file).is_file():
        raise ConfigurationError(
            f"stores.{name}.ca_file = {options.ca_file!r}: there is no such file; give the "
            "certificates of the authorities to trust, in PEM."
        )
    if options.redirect_endpoint_url and not options.redirect:
        raise ConfigurationError(
            f"stores.{name}.redirect_endpoint_url does nothing without redirect = true; set that "
            "too, or leave it out."
        )
