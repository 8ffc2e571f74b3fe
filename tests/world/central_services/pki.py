"""A PKI of throw-away keys in one directory: made on the first start, kept on later ones."""

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=365)
_AGENT_LIFE_MAX_DAYS = 2
_AGENT_BACKDATED = dt.timedelta(hours=2)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and where both are."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    cert_path: Path
    key_path: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


class Authority:
    """The certificate authority of this world."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.identity = self._load("ca") or self._make("ca", "JAliEnCA", self._ca_extensions(), issuer=None)

    def server(self, names: list[str]) -> Identity:
        """The server's identity, valid at least for the host names and addresses `names`."""
        wanted = [_general_name(name) for name in dict.fromkeys(names)]
        kept = self._load("server", issuer=self.identity)
        if kept:
            extension = kept.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            if all(name in extension.value for name in wanted):
                return kept
        extensions = [x509.SubjectAlternativeName(wanted), _leaf(), _usage(ExtendedKeyUsageOID.SERVER_AUTH)]
        return self._make("server", names[0], extensions, issuer=self.identity)

    def client(self, file_name: str, common_name: str) -> Identity:
        """The identity `file_name` of a client, subject C=CH,O=JAliEn,CN=`common_name`."""
        kept = self._load(file_name, issuer=self.identity)
        if kept and kept.certificate.subject == _name("CH", "JAliEn", common_name):
            return kept
        extensions = [_leaf(), _usage(ExtendedKeyUsageOID.CLIENT_AUTH)]
        return self._make(file_name, common_name, extensions, issuer=self.identity)

    def job_agent(self, *, validity_days: int, caps: list[dt.datetime], now: dt.datetime) -> tuple[bytes, bytes]:
        """A job agent's certificate and PKCS#8 key, both DER; it outlives none of the instants `caps`."""
        days = validity_days if 0 < validity_days <= _AGENT_LIFE_MAX_DAYS else _AGENT_LIFE_MAX_DAYS
        start = now.replace(microsecond=0) - _AGENT_BACKDATED
        end = min([now.replace(microsecond=0) + dt.timedelta(days=days), *caps])
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        builder = x509.CertificateBuilder(
            issuer_name=self.identity.certificate.subject,
            subject_name=_name("ch", "AliEn2", "JobAgent"),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=start,
            # A requester whose own certificate has long ended gets one that has ended, too.
            not_valid_after=max(end, start + dt.timedelta(seconds=1)),
        )
        ca_key = self.identity.key
        for extension in (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            _usage(ExtendedKeyUsageOID.CLIENT_AUTH),
            _key_usage(content_commitment=True, key_encipherment=True),
        ):
            builder = builder.add_extension(extension, critical=False)
        made = builder.sign(ca_key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.DER), _key_bytes(key, serialization.Encoding.DER)

    def _ca_extensions(self) -> list[x509.ExtensionType]:
        return [x509.BasicConstraints(ca=True, path_length=None), _key_usage(key_cert_sign=True, crl_sign=True)]

    def _load(self, file_name: str, issuer: Identity | None = None) -> Identity | None:
        cert_path, key_path = self._folder / f"{file_name}.pem", self._folder / f"{file_name}.key"
        if not (cert_path.exists() and key_path.exists()):
            return None
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey) or certificate.public_key() != key.public_key():
            return None
        if issuer and certificate.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        ).value != x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()):
            return None
        if certificate.not_valid_after_utc < dt.datetime.now(dt.UTC) + dt.timedelta(days=30):
            return None
        return Identity(certificate, key, cert_path, key_path)

    def _make(
        self, file_name: str, common_name: str, extensions: list[x509.ExtensionType], *, issuer: Identity | None
    ) -> Identity:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = _name("CH", "JAliEn", common_name)
        now = dt.datetime.now(dt.UTC)
        signer = issuer.key if issuer else key
        builder = x509.CertificateBuilder(
            issuer_name=issuer.certificate.subject if issuer else subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=1),
            not_valid_after=now + _LIFE,
        )
        for extension in (
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            *extensions,
        ):
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        certificate = builder.sign(signer, hashes.SHA256())
        cert_path, key_path = self._folder / f"{file_name}.pem", self._folder / f"{file_name}.key"
        _write(key_path, _key_bytes(key, serialization.Encoding.PEM), 0o600)
        _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return Identity(certificate, key, cert_path, key_path)


def _write(path: Path, data: bytes, mode: int) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    part.rename(path)


def _key_bytes(key: rsa.RSAPrivateKey, encoding: serialization.Encoding) -> bytes:
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(country: str, organization: str, common_name: str) -> x509.Name:
    parts = (
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _leaf() -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=False, path_length=None)


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _key_usage(
    *,
    content_commitment: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=content_commitment,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
