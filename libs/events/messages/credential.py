"""Credentials without their keys."""

from datetime import datetime

import msgspec

from libs.events.messages.event import Event


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential without its key. `days_left` is None when it has no known end; `problem` is empty when good."""

    kind: str
    source: str
    checked_at: datetime
    subject: str = ""
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    days_left: float | None = None
    problem: str = ""


class CredentialObserved(Event, frozen=True, kw_only=True):
    """Every credential that the site depends on."""

    credentials: list[Credential]


class CredentialRenewed(Event, frozen=True, kw_only=True):
    """A new credential took effect."""

    kind: str
    source: str
    subject: str = ""
    not_after: datetime | None = None
