"""Who is at the other end of a TLS connection."""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from libs.alice.identity import alice_dn


@dataclass(frozen=True)
class Peer:
    """The other side: its address, the version of TLS, and its certificate's subject, issuer and end."""

    address: str
    tls: str
    subject: str
    issuer: str
    not_after: datetime


def of(stream: asyncio.StreamWriter) -> Peer | None:
    """The peer of an open connection; None when it showed no certificate."""
    tls = stream.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
    if der is None:
        return None
    leaf = x509.load_der_x509_certificate(der)
    address = stream.get_extra_info("peername") or ("unknown", 0)
    return Peer(
        address=f"{address[0]} port {address[1]}",
        tls=(tls.version() if tls else None) or "unknown TLS",
        subject=alice_dn(leaf.subject),
        issuer=alice_dn(leaf.issuer),
        not_after=leaf.not_valid_after_utc,
    )
