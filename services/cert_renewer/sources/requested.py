"""Our own key and its signing request (PKCS #10), kept until the certificate for it is installed."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from libs.runtime import secret_file
from libs.runtime.errors import Misconfigured
from libs.runtime.site.credentials import HostCertificate
from services.cert_renewer.checks import PrivateKey

PENDING = "pending"
KEY_NAME = "hostkey.pem"
CSR_NAME = "host.csr"
_RDN = re.compile(r"/(?=[A-Za-z0-9.]+=)")
_CURVES = {"p-256": ec.SECP256R1, "p-384": ec.SECP384R1}


@dataclass(frozen=True, repr=False)
class Request:
    """A key, never shown, and the request for it."""

    key_pem: bytes
    csr_pem: bytes
    public_der: bytes

    def is_for(self, certificate: x509.Certificate) -> bool:
        """True when the certificate was made for this key."""
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == self.public_der


class Pending:
    """The key of the certificate to come, in a directory that only we read. All of it is file work."""

    def __init__(self, directory: Path, wanted: HostCertificate) -> None:
        self._directory = directory / PENDING
        self._wanted = wanted

    def exists(self) -> bool:
        """True while a certificate is awaited."""
        return (self._directory / KEY_NAME).exists()

    def request(self) -> Request:
        """The request under way, or a new one with a new key. Overloaded or OSError when the key cannot be kept."""
        path, csr_path = self._directory / KEY_NAME, self._directory / CSR_NAME
        if not self.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            csr_path.unlink(missing_ok=True)
            secret_file.replace_file(path, _new_key(self._wanted.key), "host key", mode=0o400)
        key_pem = secret_file.read_secret(path, "host key", private=True)
        try:
            key = load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, PrivateKey):
            raise Misconfigured(f"host key: {path} is none of ours; remove {self._directory}")
        if not csr_path.exists():
            secret_file.replace_file(csr_path, _csr(key, self._wanted), "signing request", mode=0o644)
        return Request(key_pem, csr_path.read_bytes(), key.public_key().public_bytes(*_PUBLIC))

    def clear(self) -> None:
        """The certificate is installed with its key."""
        shutil.rmtree(self._directory, ignore_errors=True)


_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def subject_of(dn: str) -> x509.Name:
    """A name from ALICE's slash form, `/C=ch/O=AliEn2/CN=host`. Misconfigured when it is none."""
    parts = [part for part in _RDN.split(dn) if part]
    try:
        return x509.Name.from_rfc4514_string(",".join(reversed(parts)))
    except ValueError:
        raise Misconfigured(f"credentials.host_certificate.dn {dn!r} cannot be read as a subject") from None


def _new_key(kind: str) -> bytes:
    key: PrivateKey = (
        ec.generate_private_key(_CURVES[kind]())
        if kind in _CURVES
        else rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _csr(key: PrivateKey, wanted: HostCertificate) -> bytes:
    subject = subject_of(wanted.dn or f"/CN={wanted.names[0]}")
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if wanted.names:
        names = [x509.DNSName(name) for name in wanted.names]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
