"""What goes wrong between us and the central services, each way under its own name. Pure.

Unreachable
+-- UnknownSubject        a stream header and then silence: our certificate's subject belongs to no account
+-- Lost                  the other side closed or broke the connection before its reply
    +-- ClosedWithoutReply  ... after a request: it stops, or cannot read the request
    +-- CutOff              ... in the middle of a reply
Refused
+-- CertificateRefused    a TLS alert about our certificate
+-- ServerException       understood, and answered with an exception
    +-- DatabaseAway        ... that the server throws when its database does not answer
Misconfigured
+-- Untrusted             the server's certificate is not from our trust anchors, has another name, or is out of time
"""

from libs.runtime.errors import CredentialExpired, Malformed, Misconfigured, NacreError, Refused, Unreachable

# JBroker's map stays null when the query for waiting jobs found no database; the server's own code falls over that.
_NO_DATABASE = '"this.match" is null'


class UnknownSubject(Unreachable):
    """A header and then silence: our certificate's subject belongs to no account."""


class Lost(Unreachable):
    """The other side closed or broke the connection before its reply."""


class ClosedWithoutReply(Lost):
    """Closed after a request: it stops, or cannot read the request."""


class CutOff(Lost):
    """Closed in the middle of a reply."""


class CertificateRefused(Refused):
    """A TLS alert about our certificate."""


class ServerException(Refused):
    """Answered with an exception; the text has its root message."""


class DatabaseAway(ServerException):
    """Answered with the exception that the server throws when its database does not answer."""


class Untrusted(Misconfigured):
    """The server's certificate is not one that we trust."""


_KINDS: dict[type[NacreError], str] = {
    UnknownSubject: "unknown_subject",
    ClosedWithoutReply: "closed_without_reply",
    CutOff: "cut_off",
    Lost: "connection_lost",
    Unreachable: "unreachable",
    CredentialExpired: "certificate_expired",
    CertificateRefused: "certificate_refused",
    DatabaseAway: "database_away",
    ServerException: "server_exception",
    Untrusted: "untrusted_server",
    Misconfigured: "misconfigured",
    Malformed: "malformed",
}


def server_exception(root_message: str) -> ServerException:
    """The error for an exception that the server answered with."""
    kind = DatabaseAway if _NO_DATABASE in root_message else ServerException
    return kind(f"the central services refused: {root_message}")


def kind(error: NacreError) -> str:
    """The failure in one word, for counters and alarms."""
    return next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), "other")


def joined(failures: list[NacreError]) -> NacreError:
    """One error for the failures of several servers; it is of the first kind that is more than being unreachable."""
    if len(failures) == 1:
        return failures[0]
    first = next((error for error in failures if not isinstance(error, Unreachable)), failures[0])
    return type(first)("; ".join(str(error) for error in failures))
