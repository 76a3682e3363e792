"""A signature to verify data against as it comes in: cursive's, over the bytes in their order."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cursive.exception import SignatureVerificationError
from cursive.signature_utils import HASH_METHODS, SignatureKeyType

from transom.errors import SignatureInvalid


class Verifier:
    """Takes the data in order, and says at its end whether the signature is that of this data."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def update(self, chunk: bytes) -> None:
        """The next bytes."""
        self._inner.update(chunk)

    def verify(self) -> None:
        """After all of the data. Raises SignatureInvalid."""
        try:
            self._inner.verify()
        except InvalidSignature:
            raise SignatureInvalid("it is not the signature of this data") from None


def open_verifier(
    certificate: bytes, *, signature: str, hash_method: str, key_type: str
) -> Verifier:
    """A verifier for one image. `signature` is base64, `hash_method` and `key_type` are the words of
    lifecycle §8. Raises SignatureInvalid."""
    if hash_method not in HASH_METHODS:
        raise SignatureInvalid(
            f"'{hash_method:.32}' is no hash method; use one of {', '.join(HASH_METHODS)}"
        )
    try:
        kind = SignatureKeyType.lookup(key_type)
    except SignatureVerificationError:
        known = ", ".join(SignatureKeyType.REGISTERED_TYPES)
        raise SignatureInvalid(f"'{key_type:.32}' is no key type; use one of {known}") from None
    try:
        raw = base64.b64decode(signature, validate=True)
    except (ValueError, binascii.Error):
        raise SignatureInvalid("img_signature is not base64") from None
    public_key = _valid(certificate).public_key()
    if not isinstance(public_key, kind.public_key_type):
        raise SignatureInvalid(f"the certificate's key is not of type {key_type}")
    curve = getattr(getattr(public_key, "curve", None), "name", None)
    if curve is not None and key_type != f"ECC_{curve.upper()}":
        raise SignatureInvalid(f"the certificate's key is on curve {curve}, not {key_type}")
    inner = kind.create_verifier(raw, HASH_METHODS[hash_method], public_key)
    if inner is None:
        raise SignatureInvalid("img_signature is empty")
    return Verifier(inner)


def _valid(encoded: bytes) -> x509.Certificate:
    """The certificate, if it is valid at this moment."""
    try:
        if encoded.lstrip().startswith(b"-----"):
            certificate = x509.load_pem_x509_certificate(encoded)
        else:
            certificate = x509.load_der_x509_certificate(encoded)
    except ValueError:
        raise SignatureInvalid("what its certificate's id names is no X.509 certificate") from None
    moment = dt.datetime.now(dt.UTC)
    if moment < certificate.not_valid_before_utc:
        raise SignatureInvalid("its certificate is not valid yet")
    if moment > certificate.not_valid_after_utc:
        raise SignatureInvalid("its certificate has expired")
    return certificate
