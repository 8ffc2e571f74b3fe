from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from libs.alice.answers import JobAgentToken
from libs.runtime.errors import Malformed
from services.cert_renewer import token_file

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)


def certificate(days: float = 2) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "JobAgent")])
    builder = x509.CertificateBuilder(
        name, name, KEY.public_key(), 1, NOW - timedelta(days=3), NOW + timedelta(days=days)
    )
    return builder.sign(KEY, hashes.SHA256())


def key_der(key: rsa.RSAPrivateKey = KEY) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip


def token(days: float = 2, key: rsa.RSAPrivateKey = KEY) -> JobAgentToken:
    return JobAgentToken(certificate(days).public_bytes(serialization.Encoding.DER), key_der(key))


def test_the_file_holds_both_exports() -> None:
    """Certificate and PKCS #1 key, as JAliEn's own CE writes them; the certificate is read back."""
    made = token_file.checked(token(), NOW)
    lines = made.content.decode().splitlines()
    assert lines[0] == 'export JALIEN_TOKEN_CERT="-----BEGIN CERTIFICATE-----'
    assert 'export JALIEN_TOKEN_KEY="-----BEGIN RSA PRIVATE KEY-----' in lines
    assert token_file.certificate_in(made.content) == certificate()
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (token(key=OTHER), "does not fit"),
        (token(days=-1), "ended 2026-11-22 12:00 UTC; is this machine's clock right"),
        (JobAgentToken(b"nonsense", key_der()), "cannot be read"),
        (JobAgentToken(token().certificate_der, b"nonsense"), "cannot be read"),
    ],
)
def test_a_bad_token_never_reaches_the_file(bad: JobAgentToken, words: str) -> None:
    """Key and certificate must be a readable pair that still lives; the error shows neither."""
    with pytest.raises(Malformed, match=words) as caught:
        token_file.checked(bad, NOW)
    assert caught.value.__cause__ is None
    assert "nonsense" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b'export JALIEN_TOKEN_CERT="nonsense"\n', b"\xff\xfe"])
def test_what_is_no_token_file_reads_as_none(content: bytes) -> None:
    """Empty or foreign files hold no token."""
    assert token_file.certificate_in(content) is None
