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

    `waiting` grid jobs and `limits` are None when unknown; `unknown_because` says why, and is empty when known.
    A CE that is `locked` centrally is known, whether or not `waiting` was asked. `limits_from` is `site_file` in shadow
    mode, where the central services are not asked for limits.
    """

    ce: str
    waiting: int | None = None
    limits: CentralLimits | None = None
    limits_from: Literal["central_services", "site_file"] = "central_services"
    locked: bool = False
    unknown_because: str = ""
