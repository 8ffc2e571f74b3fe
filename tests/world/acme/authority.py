"""A certificate authority with a root and an intermediate, which issues good host certificates and all kinds of bad.

It lives on whatever clock its callers give it: `now` is an argument.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=47)
AUTHORITY_LIFE = dt.timedelta(days=3650)
BACKDATED = dt.timedelta(hours=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Signer:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Order:
    """What is to be issued. `chain`: what goes into the file behind the leaf, by default the intermediate."""

    public_key: PublicKey
    subject: x509.Name
    not_before: dt.datetime
    not_after: dt.datetime
    signer: Signer
    names: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT, SERVER)
    may_sign: bool = True
    chain: tuple[x509.Certificate, ...] | None = None


@dataclass
class Authority:
    """Root and intermediate; `issue` gives PEM chains, leaf first, by `kind` (see KINDS)."""

    now: dt.datetime
    name: str = "Test Grid CA"
    root: Signer = field(init=False)
    intermediate: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.root = _signer(f"{self.name} Root", self.now)
        self.intermediate = _signer(f"{self.name} 1", self.now, self.root)

    @property
    def root_pem(self) -> bytes:
        """The trust anchor."""
        return pem([self.root.certificate])

    def issue(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        now: dt.datetime,
        *,
        kind: str = "good",
        names: Sequence[str] = (),
        life: dt.timedelta = LIFE,
    ) -> bytes:
        """A chain for this key, good or bad."""
        order = Order(
            public_key, subject, now - BACKDATED, now - BACKDATED + life, self.intermediate, tuple(names)
        )  # fmt: skip
        return pem(_carried_out(KINDS[kind](self, order, now)))

    def signed(self, csr_pem: bytes, now: dt.datetime, *, kind: str = "good", life: dt.timedelta = LIFE) -> bytes:
        """The chain for a signing request, with its subject and names."""
        request = x509.load_pem_x509_csr(csr_pem)
        assert request.is_signature_valid
        key = request.public_key()
        assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        try:
            extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            names = []
        subject = request.subject or name_of("nobody")
        return self.issue(key, subject, now, kind=kind, names=names, life=life)


def served(order: Order, address: str) -> bytes:
    """A server's chain, also for an address."""
    return pem(_carried_out(order, [x509.IPAddress(ipaddress.ip_address(address))]))


def reissued(certificate: x509.Certificate, public_key: PublicKey, signer: Signer, now: dt.datetime) -> bytes:
    """Another certificate for the same subject, signed by a given authority, for a renewal's sake."""
    order = Order(public_key, certificate.subject, now - BACKDATED, now + LIFE, signer, usages=(CLIENT,), chain=())
    return pem(_carried_out(order))


def name_of(common_name: str, organization: str = "Nacre Test Site") -> x509.Name:
    """O=..., CN=..."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates as a file has them."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _carried_out(order: Order, further: Sequence[x509.GeneralName] = ()) -> list[x509.Certificate]:
    builder = (
        x509.CertificateBuilder()
        .subject_name(order.subject)
        .issuer_name(order.signer.certificate.subject)
        .public_key(order.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(order.not_before)
        .not_valid_after(order.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=order.may_sign), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(order.signer.key.public_key()), critical=False
        )
    )
    if order.names:
        names = [*(x509.DNSName(name) for name in order.names), *further]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if order.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(order.usages), critical=False)
    leaf = builder.sign(order.signer.key, hashes.SHA256())
    return [leaf, *((order.signer.certificate,) if order.chain is None else order.chain)]


def _signer(
    common_name: str,
    now: dt.datetime,
    issuer: Signer | None = None,
    *,
    is_authority: bool = True,
    life: dt.timedelta = AUTHORITY_LIFE,
    usages: tuple[x509.ObjectIdentifier, ...] = (),
) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name_of(common_name, "Nacre Test Authorities")
    signing = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_key_usage(certifies=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return Signer(builder.sign(signing, hashes.SHA256()), key)


def _key_usage(*, signs: bool = False, certifies: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=not certifies,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _but(order: Order, **changes: Any) -> Order:
    return Order(**(vars(order) | changes))


def _by(order: Order, signer: Signer) -> Order:
    return _but(order, signer=signer)


def _with_chain(order: Order, further: x509.Certificate) -> Order:
    return _but(order, chain=(order.signer.certificate, further))


# What each kind of certificate is made like; all but the first are to be refused by whoever needs a TLS client's.
KINDS: dict[str, Callable[[Authority, Order, dt.datetime], Order]] = {
    "good": lambda _a, order, _n: order,
    "without_usage": lambda _a, order, _n: _but(order, usages=()),
    "server_only": lambda _a, order, _n: _but(order, usages=(SERVER,)),
    "client_only": lambda _a, order, _n: _but(order, usages=(CLIENT,)),
    "may_not_sign": lambda _a, order, _n: _but(order, may_sign=False),
    "other_subject": lambda _a, order, _n: _but(order, subject=name_of("somebody.else.example.org")),
    "other_names": lambda _a, order, _n: _but(order, names=("other.example.org",)),
    "other_key": lambda _a, order, _n: _but(order, public_key=ec.generate_private_key(ec.SECP256R1()).public_key()),
    "expired": lambda _a, order, now: _but(order, not_after=now - dt.timedelta(minutes=1)),
    "future": lambda _a, order, now: _but(order, not_before=now + dt.timedelta(days=1)),
    "without_chain": lambda _a, order, _n: _but(order, chain=()),
    "foreign": lambda _a, order, now: _by(order, Authority(now, "Somebody's").intermediate),
    "false_authority": lambda a, order, now: _with_chain(
        _by(order, _signer("No Authority", now, a.intermediate, is_authority=False)), a.intermediate.certificate
    ),
    "expired_authority": lambda a, order, now: _by(
        order, _signer("Old Authority", now, a.root, life=-dt.timedelta(days=1))
    ),
    "server_authority": lambda a, order, now: _by(order, _signer("Web Authority", now, a.root, usages=(SERVER,))),
}
BAD = tuple(kind for kind in KINDS if kind not in ("good", "without_usage", "client_only"))
