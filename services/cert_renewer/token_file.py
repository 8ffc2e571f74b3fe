"""The job agents' token file: two shell exports that a batch job sources.

Format: alien.site.ComputingElement's proxy_cache_file, https://gitlab.cern.ch/jalien/jalien.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.alice.answers import JobAgentToken
from libs.runtime.errors import Malformed

CERTIFICATE_LINE = re.compile(r'^export JALIEN_TOKEN_CERT="([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, repr=False)
class Token:
    """A checked token: its certificate, and the content of the file, which holds the key and is never shown."""

    certificate: x509.Certificate
    content: bytes


def checked(token: JobAgentToken, now: datetime) -> Token:
    """The token as the file has it; Malformed when key and certificate are not a pair, or it has expired already."""
    try:
        certificate = x509.load_der_x509_certificate(token.certificate_der)
        key = serialization.load_der_private_key(token.key_der, password=None)
        is_pair = _public(certificate.public_key()) == _public(key.public_key())
        key_pem = key.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the cause, whose text could quote the key.
        raise Malformed("the central services sent a job-agent token that cannot be read") from None
    if not is_pair:
        raise Malformed("the central services sent a job-agent token whose key does not fit its certificate")
    if certificate.not_valid_after_utc <= now:
        raise Malformed(
            f"the central services sent a job-agent token that ended {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} "
            "UTC; is this machine's clock right?"
        )
    certificate_pem = certificate.public_bytes(Encoding.PEM)
    text = (
        f'export JALIEN_TOKEN_CERT="{certificate_pem.decode().strip()}"\n'
        f'export JALIEN_TOKEN_KEY="{key_pem.decode().strip()}"\n'
    )
    return Token(certificate, text.encode())


def certificate_in(content: bytes) -> x509.Certificate | None:
    """The certificate in a token file; None when there is nothing readable in it."""
    found = CERTIFICATE_LINE.search(content.decode("ascii", "replace"))
    try:
        return x509.load_pem_x509_certificate(found[1].encode()) if found else None
    except ValueError:
        return None


def _public(key: object) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return found
