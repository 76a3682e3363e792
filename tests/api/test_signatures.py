"""Signed images: what is stored is what was signed, or nothing is (lifecycle §8)."""

from __future__ import annotations

import base64
import datetime as dt
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

from tests.conftest import Running, ServerWith
from tests.support.server import Client, ServerProcess, told

DATA = b"signed data " * 5000
HASHES: dict[str, hashes.HashAlgorithm] = {
    "SHA-224": hashes.SHA224(),
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
}
CURVES: dict[str, ec.EllipticCurve] = {
    "ECC_SECP384R1": ec.SECP384R1(),
    "ECC_SECP521R1": ec.SECP521R1(),
}


@pytest.fixture
def signing(server_with: ServerWith) -> Running:
    """A server with a folder of trusted certificates."""
    return server_with({"signatures": {"folder": "<data>/trusted"}})


def make_key(kind: str) -> Any:
    """A private key of a key type."""
    if kind == "RSA-PSS":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if kind == "DSA":
        return dsa.generate_private_key(key_size=2048)
    return ec.generate_private_key(CURVES[kind])


def sign(key: Any, data: bytes, method: str) -> str:
    """The signature of the data, base64."""
    algorithm = HASHES[method]
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
        made = key.sign(data, pss, algorithm)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = key.sign(data, ec.ECDSA(algorithm))
    else:
        made = key.sign(data, algorithm)
    return base64.b64encode(made).decode()


def certificate_of(key: Any, *, days: tuple[int, int] = (-1, 1)) -> bytes:
    """A certificate of the key, valid from and to these days from now, PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def trust(
    server: ServerProcess, key: Any, *, days: tuple[int, int] = (-1, 1), folder: str = "trusted"
) -> str:
    """Lay a certificate of the key into the folder; gives its id."""
    certificate_id = str(uuid.uuid4())
    place = Path(server.data) / folder
    place.mkdir(exist_ok=True)
    (place / f"{certificate_id}.pem").write_bytes(certificate_of(key, days=days))
    return certificate_id


def properties(certificate_id: str, kind: str, method: str, signature: str) -> dict[str, str]:
    """What a signed image says of its signature."""
    return {
        "img_signature": signature,
        "img_signature_hash_method": method,
        "img_signature_key_type": kind,
        "img_signature_certificate_uuid": certificate_id,
    }


def signed(client: Client, **attributes: str) -> str:
    """A queued image with these properties."""
    image = client.create(disk_format="raw", container_format="bare", **attributes)
    return str(image["id"])


def check_refused(client: Client, image_id: str, data: bytes, words: str) -> None:
    """The upload is refused with these words, and leaves nothing."""
    answer = client.put_data(image_id, data)
    assert answer.status_code == 400, told(answer)
    assert "Signature verification for the image failed" in answer.text
    assert words in answer.text
    image = client.show(image_id)
    assert image["status"] == "queued"
    assert [image[name] for name in ("size", "checksum", "os_hash_value")] == [None] * 3
    assert client.get(f"/v2/images/{image_id}/file").status_code == 204


@pytest.mark.parametrize("kind", ["RSA-PSS", "DSA", *CURVES])
@pytest.mark.parametrize("method", ["SHA-256", "SHA-512"])
def test_data_that_was_signed_is_taken_and_other_data_is_not(
    signing: Running, kind: str, method: str
) -> None:
    key = make_key(kind)
    certificate_id = trust(signing.server, key)
    said = properties(certificate_id, kind, method, sign(key, DATA, method))
    image_id = signed(signing.demo, **said)
    for other in (DATA[:-1], DATA + b"x", b"X" + DATA[1:], b""):
        check_refused(signing.demo, image_id, other, "not the signature of this data")
    assert signing.demo.put_data(image_id, DATA).status_code == 204
    assert signing.demo.show(image_id)["status"] == "active"
    assert signing.demo.get(f"/v2/images/{image_id}/file").content == DATA


def test_without_a_setting_certificates_lie_in_the_data_folder(default: Running) -> None:
    key = make_key("RSA-PSS")
    certificate_id = trust(default.server, key, folder="certificates")
    said = properties(certificate_id, "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    assert default.demo.put_data(signed(default.demo, **said), DATA).status_code == 204


@pytest.mark.parametrize("method", ["SHA-224", "SHA-384"])
def test_every_hash_method_is_known(signing: Running, method: str) -> None:
    key = make_key("RSA-PSS")
    said = properties(trust(signing.server, key), "RSA-PSS", method, sign(key, DATA, method))
    image_id = signed(signing.demo, **said)
    assert signing.demo.put_data(image_id, DATA).status_code == 204


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"img_signature": "not base64!"}, "base64"),
        ({"img_signature": ""}, "empty"),
        ({"img_signature_hash_method": "MD5"}, "no hash method"),
        ({"img_signature_hash_method": "SHA-512"}, "not the signature"),
        ({"img_signature_key_type": "RSA"}, "no key type"),
        # Curves over binary fields, which the cryptographic library has given up.
        ({"img_signature_key_type": "ECC_SECT571K1"}, "no key type"),
        ({"img_signature_key_type": "DSA"}, "not of type DSA"),
        ({"img_signature_key_type": "ECC_SECP384R1"}, "not of type"),
        ({"img_signature_certificate_uuid": "../../etc/passwd"}, "no id of a certificate"),
        (
            {"img_signature_certificate_uuid": "00000000-0000-4000-8000-000000000000"},
            "there is no certificate",
        ),
    ],
)
def test_whatever_is_tampered_with_is_refused(
    signing: Running, changed: dict[str, str], words: str
) -> None:
    key = make_key("RSA-PSS")
    said = properties(trust(signing.server, key), "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    image_id = signed(signing.demo, **(said | changed))
    check_refused(signing.demo, image_id, DATA, words)


def test_key_of_another_is_refused(signing: Running) -> None:
    key, other = make_key("ECC_SECP384R1"), make_key("ECC_SECP384R1")
    said = properties(
        trust(signing.server, other), "ECC_SECP384R1", "SHA-256", sign(key, DATA, "SHA-256")
    )
    check_refused(signing.demo, signed(signing.demo, **said), DATA, "not the signature")


def test_key_on_another_curve_is_refused(signing: Running) -> None:
    key = make_key("ECC_SECP521R1")
    said = properties(
        trust(signing.server, key), "ECC_SECP384R1", "SHA-256", sign(key, DATA, "SHA-256")
    )
    check_refused(signing.demo, signed(signing.demo, **said), DATA, "curve secp521r1")


@pytest.mark.parametrize(("days", "words"), [((-3, -1), "expired"), ((1, 3), "not valid yet")])
def test_certificate_out_of_its_time_is_refused(
    signing: Running, days: tuple[int, int], words: str
) -> None:
    key = make_key("RSA-PSS")
    certificate_id = trust(signing.server, key, days=days)
    said = properties(certificate_id, "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    check_refused(signing.demo, signed(signing.demo, **said), DATA, words)


def test_something_else_than_a_certificate_is_refused(signing: Running) -> None:
    key = make_key("RSA-PSS")
    certificate_id = trust(signing.server, key)
    (signing.server.data / "trusted" / f"{certificate_id}.pem").write_text("-----BEGIN nothing")
    said = properties(certificate_id, "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    check_refused(signing.demo, signed(signing.demo, **said), DATA, "no X.509 certificate")


@pytest.mark.parametrize("missing", list(properties("", "", "", "")))
def test_three_of_the_four_properties_ask_for_nothing(signing: Running, missing: str) -> None:
    said = properties("nowhere", "RSA-PSS", "SHA-256", "AAAA")
    del said[missing]
    image_id = signed(signing.demo, **said)
    assert signing.demo.put_data(image_id, DATA).status_code == 204


@pytest.mark.parametrize("is_genuine", [True, False])
def test_import_is_held_to_the_signature_as_well(signing: Running, is_genuine: bool) -> None:
    key = make_key("RSA-PSS")
    said = properties(trust(signing.server, key), "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    image_id = signed(signing.demo, **said)
    data = DATA if is_genuine else DATA[::-1]
    octets = {"Content-Type": "application/octet-stream"}
    staged = signing.demo.put(f"/v2/images/{image_id}/stage", content=data, headers=octets)
    assert staged.status_code == 204, told(staged)
    body = {"method": {"name": "glance-direct"}}
    assert signing.demo.post(f"/v2/images/{image_id}/import", json=body).status_code == 202
    deadline = time.monotonic() + 30
    while (image := signing.demo.show(image_id))["status"] == "importing":
        assert time.monotonic() < deadline, image
        time.sleep(0.1)
    assert image["status"] == ("active" if is_genuine else "queued")
    if not is_genuine:
        assert "not the signature of this data" in image["last_error"]
