"""Who we are towards the central services: certificate chain, key and trust anchors, loaded from paths."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from libs.runtime import versions
from libs.runtime.errors import CredentialExpired, Misconfigured
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import read_secret

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Paths of PEM files: certificate (leaf first, then its chain), key, trust anchors (one file or a directory)."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Loaded:
    """An identity as read: what TLS needs, and what the principal says about us."""

    context: ssl.SSLContext
    certificates_der: tuple[bytes, ...]
    subject: str
    not_after: datetime


class CurrentIdentity:
    """An identity as its files say now: read at first use, and again whenever one of them has changed.

    While changed files do not fit together, as in the middle of a renewal, what was read before stays in use, which is
    logged. One of these may serve many connections, which then share its TLS context.
    """

    def __init__(self, identity: Identity, *, verify_name: bool = True) -> None:
        self._identity = identity
        self._verify_name = verify_name
        self._loaded: Loaded | None = None
        self._stamps: tuple[tuple[int, int, int], ...] = ()
        self._trouble = ""
        self._files = FileWork(f"host certificate {identity.certificate}")
        if not verify_name:
            log.warning(
                "the name of the central services' server is NOT verified (verify_name = false): "
                "whoever holds any certificate of the trusted authorities could answer in its place"
            )

    async def now(self) -> Loaded:
        """As `loaded`, without waiting for a file system that hangs: Unreachable."""
        return await self._files.run(self.loaded)

    def loaded(self) -> Loaded:
        """What the files say; the same object until they change.

        Misconfigured while they have never been fit, CredentialExpired while none has been installed yet.
        """
        stamps = _stamps(self._identity)
        if self._loaded is not None and stamps == self._stamps:
            return self._loaded
        try:
            loaded = load(self._identity, verify_name=self._verify_name)
        except (Misconfigured, CredentialExpired) as error:
            if self._loaded is None:
                raise
            if str(error) != self._trouble:
                log.warning("%s; what was read before stays in use", error)
            self._trouble = str(error)
            return self._loaded
        if self._loaded is not None:
            log.info("certificate, key or trust anchors changed: %s until %s", loaded.subject, loaded.not_after)
        self._loaded, self._stamps, self._trouble = loaded, stamps, ""
        return loaded


def alice_dn(name: x509.Name) -> str:
    """A distinguished name in ALICE's slash form, `/C=ch/O=AliEn2/CN=JobAgent`.

    The central services split the RFC 2253 form at every comma, even inside a value, and turn it round; so does this,
    since the result must equal the `subject` of an account in LDAP.
    """
    return "/" + "/".join(reversed(name.rfc4514_string().split(",")))


def load_chain(pem: bytes, path: Path) -> Sequence[x509.Certificate]:
    """The certificates of a PEM file, at least one. Misconfigured names the file."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Misconfigured(f"host certificate: {path} holds no PEM certificate; replace it with the host's") from error


def load(identity: Identity, *, verify_name: bool = True) -> Loaded:
    """Read everything anew. Misconfigured says which file is missing, unreadable, or does not belong to the other.

    CredentialExpired: cert_renewer, which installs the certificate there, has not done so yet.
    """
    if versions.is_awaited(identity.certificate):
        raise CredentialExpired(
            f"host certificate: {identity.certificate} is not installed yet; cert_renewer does that"
        )
    chain = load_chain(read_secret(identity.certificate, "host certificate"), identity.certificate)
    read_secret(identity.key, "host key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify_name
    try:
        is_directory = identity.ca.is_dir()
        context.load_verify_locations(
            cafile=None if is_directory else str(identity.ca), capath=str(identity.ca) if is_directory else None
        )
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"trust anchors: {identity.ca} cannot be used ({_reason(error)})") from error
    try:
        # Without a password OpenSSL would ask for one on the terminal and the service would hang.
        context.load_cert_chain(identity.certificate, identity.key, password=b"")
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"host key {identity.key} does not fit host certificate {identity.certificate} ({_reason(error)}); "
            "both must be PEM, unencrypted, and of one pair"
        ) from error
    leaf = chain[0]
    return Loaded(
        context=context,
        certificates_der=tuple(certificate.public_bytes(Encoding.DER) for certificate in chain),
        subject=alice_dn(leaf.subject),
        not_after=leaf.not_valid_after_utc,
    )


def _stamps(identity: Identity) -> tuple[tuple[int, int, int], ...]:
    """What changes whenever a file or directory of the identity does; zeros for one that cannot be looked at."""
    found = []
    for path in (identity.certificate, identity.key, identity.ca):
        try:
            looked = path.stat()
            found.append((looked.st_mtime_ns, looked.st_ino, looked.st_size))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)


def _reason(error: OSError) -> str:
    reason: str | None = getattr(error, "reason", None) or error.strerror
    return reason or type(error).__name__
