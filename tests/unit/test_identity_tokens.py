"""Tokens: what is sealed comes back, and nothing else ever does."""

from __future__ import annotations

import base64
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transom.auth.local import tokens
from transom.auth.local.tokens import Claims
from transom.errors import Unauthenticated, UnknownKey

SECRET = bytes(range(32))
KEYS = {7: SECRET, 8: bytes(32)}
CLAIMS = Claims(
    audit_id=b"a" * 16,
    user_id=b"u" * 16,
    user_epoch=3,
    issued_at=1_800_000_000,
    expires_at=1_800_043_200,
    methods=tokens.bits_of(frozenset({"password", "token"})),
    parent_audit_id=b"p" * 16,
    project_id=b"P" * 16,
    project_epoch=2,
    grants=(11, 12),
    credential_id=b"c" * 16,
)
TOKEN = tokens.seal(CLAIMS, 7, SECRET)


def test_claims_come_back_as_they_were_sealed() -> None:
    assert tokens.unseal(TOKEN, KEYS) == CLAIMS


def test_a_token_fits_into_every_header() -> None:
    assert len(TOKEN) < 255
    assert set(TOKEN) <= set(string.ascii_letters + string.digits + "-_")


def test_every_change_of_every_character_is_noticed() -> None:
    letters = string.ascii_letters + string.digits + "-_"
    for place, present in enumerate(TOKEN):
        for other in letters:
            if other != present:
                forged = TOKEN[:place] + other + TOKEN[place + 1 :]
                with pytest.raises(Unauthenticated):
                    tokens.unseal(forged, KEYS)


def test_every_cut_is_noticed() -> None:
    for length in range(len(TOKEN)):
        with pytest.raises(Unauthenticated):
            tokens.unseal(TOKEN[:length], KEYS)


@pytest.mark.parametrize("tail", ["A", "=", "==", " ", "\n", "AAAA", TOKEN])
def test_every_addition_is_noticed(tail: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.unseal(TOKEN + tail, KEYS)


def test_a_token_of_another_deployment_is_told_by_its_key() -> None:
    with pytest.raises(UnknownKey):
        tokens.unseal(tokens.seal(CLAIMS, 9, SECRET), KEYS)


def test_a_key_number_alone_opens_nothing() -> None:
    with pytest.raises(Unauthenticated):
        tokens.unseal(tokens.seal(CLAIMS, 8, SECRET), KEYS)


def test_signed_nonsense_is_refused() -> None:
    # Whoever holds the key could sign anything; older or newer formats must not crash this one.
    import hmac

    for payload in (b"", b"\xc1", msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode([1])):
        signed = (7).to_bytes(4, "big") + payload
        raw = signed + hmac.digest(SECRET, signed, "sha256")
        text = tokens.PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        with pytest.raises(Unauthenticated):
            tokens.unseal(text, KEYS)


@given(st.text(max_size=300) | st.text(alphabet=string.ascii_letters, max_size=300))
def test_no_other_text_is_a_token(text: str) -> None:
    for candidate in (text, tokens.PREFIX + text):
        with pytest.raises(Unauthenticated):
            tokens.unseal(candidate, KEYS)


@pytest.mark.parametrize(
    "methods",
    [{"password"}, {"token"}, {"application_credential"}, {"password", "token"}, set()],
    ids=lambda methods: "+".join(sorted(methods)) or "none",
)
def test_methods_fit_into_a_number_and_come_out_again(methods: set[str]) -> None:
    assert tokens.methods_of(tokens.bits_of(frozenset(methods))) == methods


def test_audit_ids_are_shown_as_keystone_shows_them() -> None:
    assert tokens.audit_text(bytes(16)) == "A" * 22
    assert tokens.new_audit_id() != tokens.new_audit_id()
