"""The tree of errors. Adapters translate everything from outside into these; the names say whose move is next.

NacreError
+-- Transient            waiting helps: the same request may succeed later
|   +-- Unreachable      no connection, or no answer in time
|   +-- RateLimited      told to slow down; `retry_after_s` when the other side said how long
|   +-- Overloaded       the other side is there but cannot serve now (5xx, maintenance)
|   +-- CredentialExpired  a credential is past its time; its renewer must act
+-- Permanent            waiting does not help: a person or a release must change something
    +-- Refused          understood and denied (wrong key, no permission, limit)
    +-- Misconfigured    our own configuration is wrong or incomplete
    +-- Malformed        bytes from outside that do not follow their protocol
"""


class NacreError(Exception):
    """Any failure that this project names. The text says what happened and what to do, never a secret."""


class Transient(NacreError):
    """Waiting helps."""


class Unreachable(Transient):
    """No connection, or no answer in time."""


class RateLimited(Transient):
    """Told to slow down."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Overloaded(Transient):
    """The other side is there but cannot serve now."""


class CredentialExpired(Transient):
    """A credential is past its time."""


class Permanent(NacreError):
    """Waiting does not help."""


class Refused(Permanent):
    """Understood and denied."""


class Misconfigured(Permanent):
    """Our own configuration is wrong or incomplete."""


class Malformed(Permanent):
    """Bytes from outside that do not follow their protocol."""
