"""Reads the credentials where they lie, and says what is wrong with them. Never gives a key away."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from libs.alice import identity
from libs.runtime.errors import Misconfigured
from libs.runtime.secret_file import read_secret
from libs.runtime.site import Machine

CERTIFICATE_NAME = "hostcert.pem"
KEY_NAME = "hostkey.pem"


@dataclass(frozen=True)
class HostCertificate:
    """What lies in the host certificate's directory. `fingerprint` tells pairs apart; empty when unreadable."""

    certificate: x509.Certificate | None
    fingerprint: str
    problem: str


def host_certificate(directory: Path) -> HostCertificate:
    """Read and check the pair: both there, of one pair, fit for a TLS client."""
    certificate: x509.Certificate | None = None
    try:
        pem = read_secret(directory / CERTIFICATE_NAME, "host certificate")
        certificate = identity.load_chain(pem, directory / CERTIFICATE_NAME)[0]
        key_pem = read_secret(directory / KEY_NAME, "host key")
    except Misconfigured as error:
        return HostCertificate(certificate, "", str(error))
    fingerprint = hashlib.sha256(pem + key_pem).hexdigest()
    return HostCertificate(certificate, fingerprint, _pair_problem(certificate, key_pem) or _usage_problem(certificate))


def client_problem(machine: Machine) -> str:
    """Why the Superfacility client's files are unusable; empty when both are there, or none is needed."""
    if machine.client_id_file is None or machine.client_key_file is None:
        return ""
    try:
        read_secret(machine.client_id_file, "Superfacility client id")
        read_secret(machine.client_key_file, "Superfacility client key")
    except Misconfigured as error:
        return str(error)
    return ""


def _pair_problem(certificate: x509.Certificate, key_pem: bytes) -> str:
    try:
        public = load_pem_private_key(key_pem, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"host key: {KEY_NAME} is no unencrypted PEM private key"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        return f"host key: {KEY_NAME} does not belong to {CERTIFICATE_NAME}; are both from the same renewal?"
    return ""


def _usage_problem(certificate: x509.Certificate) -> str:
    """Public authorities drop client authentication; the central services refuse a certificate without it."""
    try:
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    except x509.ExtensionNotFound:
        return ""
    except ValueError:
        return "host certificate: its extensions cannot be read"
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if isinstance(usage, x509.ExtendedKeyUsage) and wanted & set(usage):
        return ""
    return "host certificate: not made for TLS clients (no clientAuth); the central services would refuse it"
