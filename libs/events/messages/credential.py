"""Credentials without their keys."""

from datetime import datetime

import msgspec

from libs.events.messages.event import Event


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential without its key. `days_left` is None when it has no known end; `problem` is empty when good.

    `kind`: host_certificate, job_agent_token, edge_bearer, superfacility_client, superfacility_access_token. `name`
    tells those of one kind apart (the machine's short name). `alarm` is empty, notice, warning or critical; `todo` says
    who must do what by when, empty while nobody must. `renews_at`: when we make the next one, None when others do.
    """

    kind: str
    source: str
    checked_at: datetime
    name: str = ""
    subject: str = ""
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    days_left: float | None = None
    problem: str = ""
    alarm: str = ""
    todo: str = ""
    renews_at: datetime | None = None


class CredentialObserved(Event, frozen=True, kw_only=True):
    """Every credential that the site depends on."""

    credentials: list[Credential]


class CredentialRenewed(Event, frozen=True, kw_only=True):
    """A new credential took effect."""

    kind: str
    source: str
    name: str = ""
    subject: str = ""
    not_after: datetime | None = None
