"""What a row of the bus's table says: of a stream, of a subject, of a bucket."""

from typing import Generic, Literal, TypeVar

import msgspec

PREFIX = "nacre.v1"

Scope = Literal["ce", "machine", "site"]
Kept = Literal["latest", "log", "memory"]

T = TypeVar("T")


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A JetStream stream and its bounds. `max_per_subject` 0 is without a bound of its own."""

    name: str
    kept: Kept
    max_bytes: int
    max_age_s: int
    max_per_subject: int = 0


class Topic(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One row of the table: what `<noun>.<verb>` means, where it is kept, who writes it and who reads it.

    `message` is the type of the body; None is the binary body of `monitoring.received`.
    """

    noun: str
    verb: str
    message: type[T] | None
    scope: Scope
    stream: Stream
    writer: str
    readers: tuple[str, ...]
    meaning: str
    suffix: str = ""

    @property
    def name(self) -> str:
        """`<noun>.<verb>`."""
        return f"{self.noun}.{self.verb}"

    @property
    def pattern(self) -> str:
        """The subjects of this row as one NATS pattern."""
        return self.subject("*", "*" if self.suffix else "")

    def subject(self, scope: str, suffix: str = "") -> str:
        """The subject for one scope (a CE's short name, a machine, or `site`)."""
        if bool(suffix) != bool(self.suffix):
            raise ValueError(f"{self.name} {'needs' if self.suffix else 'has no'} suffix")
        subject = f"{PREFIX}.{scope}.{self.noun}.{self.verb}"
        return f"{subject}.{suffix}" if suffix else subject


class Bucket(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A key-value bucket. With several writers each writes only the keys `<service>.*`.

    A full bucket refuses writes, for its records are the truth; one that `forgets` drops its oldest record instead.
    """

    name: str
    record: type[T]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    key: str
    meaning: str
    max_bytes: int
    ttl_s: int = 0
    forgets: bool = False
