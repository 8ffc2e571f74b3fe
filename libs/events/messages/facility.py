"""The facility's own word on one machine."""

from datetime import datetime
from typing import Literal

import msgspec

from libs.events.messages.event import Event

FacilityStatus = Literal["active", "degraded", "unavailable", "other", "unknown"]


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A planned outage of the machine, as the facility announces it."""

    name: str
    start_at: datetime
    end_at: datetime
    description: str = ""
    status: str = ""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Node hours that the facility gave to an account this year, of one kind of node, and how many are used."""

    account: str
    kind: Literal["cpu", "gpu"]
    node_hours_given: float
    node_hours_used: float


class ApiSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The facility's API as seen from one process over the last `window_s` seconds.

    `failures` counts by kind, among them answers that say an error; latencies are in seconds, None without an answer.
    """

    window_s: float
    requests: int
    failures: dict[str, int] = {}
    latency_s_p50: float | None = None
    latency_s_p95: float | None = None
    latency_s_max: float | None = None


class FacilityObserved(Event, frozen=True, kw_only=True):
    """The facility's own word on one machine: status, notes, planned outages. `unknown` when it did not answer.

    `allocations` is None when unknown; `allocations_at` is the instant at which they were asked for. `api` is how the
    API answered the tracker lately.
    """

    machine: str
    status: FacilityStatus
    notes: list[str] = []
    planned_outages: list[Outage] = []
    unknown_because: str = ""
    allocations: list[Allocation] | None = None
    allocations_at: datetime | None = None
    api: ApiSeen | None = None
