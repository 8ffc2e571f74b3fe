"""Who is at the other end, and how a connection can end without a reply."""

from dataclasses import dataclass

from cryptography import x509


class Hangup(Exception):
    """The server ends the connection without a reply."""


@dataclass(frozen=True)
class Peer:
    """The TLS identity: its account, its subject as `/C=.../CN=...`, its certificate."""

    account: str
    dn: str
    certificate: x509.Certificate
