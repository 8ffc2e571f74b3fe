"""What must hold of a host certificate before it is installed, each with its own words. Pure.

The central services take a certificate as that of a TLS client, map its subject to an account by ALICE's slash form,
and refuse what their trust anchors do not lead to: better the old certificate than one that they refuse.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from libs.alice.identity import alice_dn
from libs.runtime.errors import Malformed
from services.cert_renewer.decide import validity

LONGEST_CHAIN = 8
FEWEST_RSA_BITS = 2048
MOST_RSA_BITS = 8192
CURVES = ("secp256r1", "secp384r1")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_DER = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, repr=False)
class Pair:
    """A chain (leaf first) and the PEM of its key. Never shown. `source` names the files in messages."""

    chain: tuple[x509.Certificate, ...]
    key_pem: bytes
    source: str

    @property
    def leaf(self) -> x509.Certificate:
        """The host's own certificate."""
        return self.chain[0]

    @property
    def fingerprint(self) -> str:
        """Tells pairs apart, also one whose key is another's."""
        return hashlib.sha256(self.chain_pem + self.key_pem).hexdigest()

    @property
    def chain_pem(self) -> bytes:
        """The certificates as a file has them."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)

    @property
    def not_after(self) -> datetime:
        """The end of whichever certificate of the chain ends first: with it the chain is of no use."""
        return min(one.not_valid_after_utc for one in self.chain)


@dataclass(frozen=True)
class Wanted:
    """What a host certificate must be. `dn` empty: any subject. `anchors_from` names the trust anchors in messages."""

    anchors: tuple[x509.Certificate, ...]
    anchors_from: str
    dn: str = ""
    names: tuple[str, ...] = ()
    server_auth: bool = False


def parsed_chain(pem: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file. Malformed when there is none, or not a whole one, as in a half-written file."""
    if pem.count(b"-----BEGIN CERTIFICATE-----") != pem.count(b"-----END CERTIFICATE-----"):
        raise Malformed(f"{name} ends within a certificate; is it being written just now?")
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise Malformed(f"{name} holds no PEM certificate") from None


def problem(pair: Pair, wanted: Wanted, now: datetime) -> str:
    """The first reason why the pair must not be installed; empty when it may be."""
    leaf = pair.leaf
    try:
        return (
            _key_problem(pair)
            or _dated(validity(leaf.not_valid_before_utc, leaf.not_valid_after_utc, now))
            or _subject_problem(leaf, wanted)
            or _usage_problem(leaf, wanted)
            or _chain_problem(pair, wanted, now)
        )
    except ValueError:
        return "certificate: its extensions cannot be read"


def _dated(text: str) -> str:
    return f"certificate: {text}" if text else ""


def _key_problem(pair: Pair) -> str:
    try:
        key = load_pem_private_key(pair.key_pem, password=None)
    except TypeError:
        return "key: it is encrypted; remove the passphrase with `openssl pkey`"
    except (ValueError, UnsupportedAlgorithm):
        return "key: this is no whole PEM private key; is it being written just now?"
    if key.public_key().public_bytes(*_DER) != pair.leaf.public_key().public_bytes(*_DER):
        return "key: it does not belong to the certificate; are both from the same renewal?"
    if isinstance(key, rsa.RSAPrivateKey):
        if FEWEST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
            return ""
        return f"key: RSA of {key.key_size} bits; {FEWEST_RSA_BITS} to {MOST_RSA_BITS} are taken"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "" if key.curve.name in CURVES else f"key: curve {key.curve.name}; {' and '.join(CURVES)} are taken"
    return "key: neither RSA nor of an elliptic curve that TLS clients use"


def _subject_problem(leaf: x509.Certificate, wanted: Wanted) -> str:
    dn = alice_dn(leaf.subject)
    if wanted.dn and dn != wanted.dn:
        return f"subject: {dn} is not the expected {wanted.dn}; ALICE would not know us"
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = {name.lower() for name in extension.value.get_values_for_type(x509.DNSName)}
    except x509.ExtensionNotFound:
        names = set()
    missing = [name for name in wanted.names if name.lower() not in names]
    return f"names: {', '.join(missing)} not among its DNS names" if missing else ""


def _usage_problem(leaf: x509.Certificate, wanted: Wanted) -> str:
    """Public authorities drop client authentication; a certificate without any extended usage serves for all."""
    if not _may(leaf, ExtendedKeyUsageOID.CLIENT_AUTH):
        return "usage: not made for TLS clients (no clientAuth); the central services would refuse it"
    if wanted.server_auth and not _may(leaf, ExtendedKeyUsageOID.SERVER_AUTH):
        return "usage: not made for TLS servers (no serverAuth), which server_auth asks for"
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    return "" if usage.digital_signature else "usage: it may not sign (no digitalSignature), as a TLS client must"


def _may(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _chain_problem(pair: Pair, wanted: Wanted, now: datetime) -> str:
    """Walk from the leaf to a trust anchor, so that what is missing has a name; the library then has the last word."""
    certificate, others = pair.leaf, pair.chain[1:]
    for _ in range(LONGEST_CHAIN):
        issuer = _issuer_of(certificate, wanted.anchors, now)
        is_anchor = issuer is not None
        issuer = issuer or _issuer_of(certificate, others, now)
        if issuer is None:
            return (
                f"chain: the issuer {alice_dn(certificate.issuer)} of {alice_dn(certificate.subject)} is neither in "
                f"the certificate's file nor a trust anchor in {wanted.anchors_from}; append the issuer's certificate, "
                "or correct the trust anchors"
            )
        if words := validity(issuer.not_valid_before_utc, issuer.not_valid_after_utc, now):
            return f"chain: the authority {alice_dn(issuer.subject)} is {words}"
        if not _is_authority(issuer):
            return f"chain: {alice_dn(issuer.subject)} issued it, and is no authority"
        if not _may(issuer, ExtendedKeyUsageOID.CLIENT_AUTH):
            return f"chain: the authority {alice_dn(issuer.subject)} may not issue for TLS clients"
        if is_anchor:
            return _verdict(pair, wanted.anchors, now)
        certificate = issuer
    return f"chain: longer than {LONGEST_CHAIN} certificates"


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _issuer_of(
    certificate: x509.Certificate, among: Sequence[x509.Certificate], now: datetime
) -> x509.Certificate | None:
    """Whoever signed it; of several certificates of one authority one that is valid now."""
    found = [one for one in among if one.subject == certificate.issuer and _is_signed_by(certificate, one)]
    valid = [one for one in found if not validity(one.not_valid_before_utc, one.not_valid_after_utc, now)]
    return next(iter(valid or found), None)


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _verdict(pair: Pair, anchors: Sequence[x509.Certificate], now: datetime) -> str:
    authorities = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
    )
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store(list(anchors)))
        .time(now)
        .max_chain_depth(LONGEST_CHAIN)
        .extension_policies(ee_policy=verification.ExtensionPolicy.permit_all(), ca_policy=authorities)
    )
    try:
        policy.build_client_verifier().verify(pair.leaf, list(pair.chain[1:]))
    except verification.VerificationError as error:
        return f"chain: it does not verify: {re.sub(r'[^ -~]', ' ', str(error))[:200]}"
    return ""
