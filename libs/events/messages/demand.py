"""What the central services say."""

from typing import Literal

import msgspec

from libs.events.messages.event import Event


class CentralLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that ALICE sets for one CE on one host: active job agents and queued job agents."""

    max_jobs: int
    max_queued: int


class DemandObserved(Event, frozen=True, kw_only=True):
    """What the central services answered for one CE.

    `waiting` grid jobs and `limits` are None when unknown; `unknown_because` says why, and is empty when known;
    `unknown_kind` is the same in one word for alarms, such as `unknown_host`. A CE that is `locked` centrally is known,
    whether or not `waiting` was asked. `limits_from` is `site_file` in shadow mode, where the central services are not
    asked for limits. `server` is who answered last, empty when nobody did. `asked_ttl_s` is the time to live that
    waiting grid jobs had to be below.
    """

    ce: str
    waiting: int | None = None
    limits: CentralLimits | None = None
    limits_from: Literal["central_services", "site_file"] = "central_services"
    locked: bool = False
    unknown_because: str = ""
    unknown_kind: str = ""
    server: str = ""
    asked_ttl_s: int | None = None
