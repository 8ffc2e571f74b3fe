"""Operators' wishes: the records of the bucket `control`, and what became of those that ask for a deed."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from libs.events.messages.event import Event

Count = Annotated[int, Meta(ge=0)]


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Submit nothing for this CE while the wish stands."""

    ce: str


class Bound(msgspec.Struct, frozen=True, kw_only=True, tag="bound"):
    """Limits of a CE below those of its site file while the wish stands; None leaves one as it is."""

    ce: str
    max_active: Count | None = None
    max_queued: Count | None = None
    agents_per_decision: Count | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Cancel the named job agents; without names every batch job of the CE that is ours. Never a stranger's."""

    ce: str
    agents: list[str] = []


class Probe(msgspec.Struct, frozen=True, kw_only=True, tag="probe"):
    """Submit one short batch job that measures from a worker node; `node` empty: wherever Slurm likes."""

    ce: str
    node: str = ""


class FetchLog(msgspec.Struct, frozen=True, kw_only=True, tag="fetch_log"):
    """Fetch what the job agent has written so far into `agent_logs`."""

    agent: str


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Who wishes what, why, and until when (None: until it is withdrawn). Key: `<kind>.<CE, agent or random id>`."""

    author: str
    reason: str
    made_at: datetime
    expires_at: datetime | None
    what: Drain | Bound | Cancel | Probe | FetchLog


class WishFulfilled(Event, frozen=True, kw_only=True):
    """What became of a wish for a deed: `done` deeds, those `refused` with their reasons, `left` still to do.

    `key` is the wish's key in `control`.
    """

    ce: str
    key: str
    done: int
    refused: list[str] = []
    left: int = 0
