"""Tokens: claims, signed. A token is text that only this deployment can write.

    transom1_ + base64url( key id, 4 bytes · claims, MessagePack · HMAC-SHA256 of both, 32 bytes )

Nothing in it is secret but the signature; whoever holds it is believed, so it is treated like a
password everywhere. What the claims are worth *now* (is the user enabled, does the role still
exist) is not said here: `identity.py` asks the catalog.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

import msgspec

from transom.errors import Unauthenticated, UnknownKey

PREFIX = "transom1_"
_ID_BYTES = 4
_MAC_BYTES = hashlib.sha256().digest_size
_TEXT_LENGTH_MAX = 2048
METHODS = ("password", "token", "application_credential")
"""The ways to log in, in the order of their bits in `Claims.methods`."""


class Claims(msgspec.Struct, frozen=True, array_like=True):
    """What a token says. Ids are the 16 bytes of a UUID, times seconds since the epoch."""

    audit_id: bytes
    user_id: bytes
    user_epoch: int
    issued_at: int
    expires_at: int
    methods: int
    parent_audit_id: bytes = b""
    project_id: bytes = b""
    project_epoch: int = 0
    grants: tuple[int, ...] = ()
    """The grants that the token stands on; it dies with any of them."""
    credential_id: bytes = b""


def new_audit_id() -> bytes:
    """A fresh name for a token, which can be told without giving the token away."""
    return secrets.token_bytes(16)


def audit_text(audit_id: bytes) -> str:
    """An audit id as Keystone shows it."""
    return base64.urlsafe_b64encode(audit_id).rstrip(b"=").decode()


def bits_of(methods: frozenset[str]) -> int:
    """The methods as `Claims.methods` holds them."""
    return sum(1 << bit for bit, name in enumerate(METHODS) if name in methods)


def methods_of(bits: int) -> frozenset[str]:
    """The reverse of `bits_of`."""
    return frozenset(name for bit, name in enumerate(METHODS) if bits >> bit & 1)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Claims)


def seal(claims: Claims, key_id: int, secret: bytes) -> str:
    """The token that carries the claims, signed with the key."""
    signed = key_id.to_bytes(_ID_BYTES, "big") + _encoder.encode(claims)
    mac = hmac.digest(secret, signed, "sha256")
    return PREFIX + base64.urlsafe_b64encode(signed + mac).rstrip(b"=").decode()


def unseal(token: str, keys: Mapping[int, bytes]) -> Claims:
    """The claims of a token. Raises UnknownKey, or Unauthenticated when it is not ours or was
    changed. Expiry is not looked at."""
    if not token.startswith(PREFIX) or len(token) > _TEXT_LENGTH_MAX:
        raise Unauthenticated
    text = token[len(PREFIX) :]
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as broken:
        raise Unauthenticated from broken
    # One token has one spelling: the unused bits of the last letter must be zero.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text or len(raw) < _ID_BYTES + (
        _MAC_BYTES
    ):
        raise Unauthenticated
    signed, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    secret = keys.get(int.from_bytes(signed[:_ID_BYTES], "big"))
    if secret is None:
        raise UnknownKey
    if not hmac.compare_digest(hmac.digest(secret, signed, "sha256"), mac):
        raise Unauthenticated
    try:
        return _decoder.decode(signed[_ID_BYTES:])
    except msgspec.DecodeError as broken:
        raise Unauthenticated from broken
