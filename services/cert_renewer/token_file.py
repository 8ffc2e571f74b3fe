"""The job agents' token file: two shell exports that a batch job sources.

It is replaced in one step, so a reader sees the old token or the new one, never half of either; only its owner may read
it. Format: alien.site.ComputingElement's proxy_cache_file, https://gitlab.cern.ch/jalien/jalien.
"""

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.alice.answers import JobAgentToken
from libs.runtime.errors import Malformed, Overloaded

MODE = 0o600
STALE_AFTER = timedelta(hours=1)
MOST_BYTES = 1 << 16
CERTIFICATE_LINE = re.compile(r'^export JALIEN_TOKEN_CERT="([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, repr=False)
class Token:
    """A checked token: its certificate, and the text of the file, which holds the key and is never shown."""

    certificate: x509.Certificate
    text: str


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
        raise Malformed(f"the central services sent a job-agent token that ended {certificate.not_valid_after_utc}")
    certificate_pem = certificate.public_bytes(Encoding.PEM)
    text = (
        f'export JALIEN_TOKEN_CERT="{certificate_pem.decode().strip()}"\n'
        f'export JALIEN_TOKEN_KEY="{key_pem.decode().strip()}"\n'
    )
    return Token(certificate, text)


def write(path: Path, token: Token) -> None:
    """Replace the file. Overloaded when it cannot be written; the old one then stays as it was."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(token.text.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise Overloaded(f"token file {path} cannot be written: {error.strerror}; the old one stays") from error


def read(path: Path) -> x509.Certificate | None:
    """The certificate in the file; None when there is no file or nothing readable in it."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("ascii", "replace")
        found = CERTIFICATE_LINE.search(text)
        return x509.load_pem_x509_certificate(found[1].encode()) if found else None
    except (OSError, ValueError):
        return None


def sweep(path: Path, now: datetime) -> int:
    """Remove what a killed process left half-written beside the file long ago; gives how many."""
    removed = 0
    for stale in path.parent.glob(f".{path.name}.*.new"):
        with contextlib.suppress(OSError):
            if stale.stat().st_mtime < (now - STALE_AFTER).timestamp():
                stale.unlink()
                removed += 1
    return removed


def _public(key: object) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return found


def _sync(directory: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
