"""What the central services' answers mean for one CE. Pure."""

from datetime import datetime

import msgspec

from libs.alice.answers import OPEN, FreeSlots, WaitingJobs
from libs.events.messages import CentralLimits, DemandObserved
from libs.runtime.site import Limits

KINDS: dict[int | None, str] = {
    None: "database_away",
    1: "unknown_host",
    2: "host_not_updated",
    3: "no_limits",
}

MOST_BACK_OFF_S = 30.0
MOST_DOUBLINGS = 16
SPREAD = 0.1
BURST_CHANGES = 10


def demand(ce: str, at: datetime, by: str, free: FreeSlots, waiting: WaitingJobs | None) -> DemandObserved:
    """The demand of one CE: known, locked, or unknown with the reason. `waiting` is None when it was not asked."""
    if free.is_locked:
        return DemandObserved(at=at, by=by, ce=ce, locked=True)
    if free.code != OPEN or free.max_jobs is None or free.max_queued is None:
        return unknown(ce, at, by, f"free slots: {free.meaning}", KINDS.get(free.code, "unknown_code"))
    limits = CentralLimits(max_jobs=free.max_jobs, max_queued=free.max_queued)
    return _counted(DemandObserved(at=at, by=by, ce=ce, limits=limits), waiting)


def shadow_demand(ce: str, at: datetime, by: str, limits: Limits, waiting: WaitingJobs) -> DemandObserved:
    """The demand of a CE in shadow mode: free slots are not asked, the site file's limits stand for ALICE's."""
    if limits.shadow_max_jobs is None or limits.shadow_max_queued is None:
        why = "shadow mode without limits.shadow_max_jobs and limits.shadow_max_queued"
        return unknown(ce, at, by, why, "misconfigured")
    stand_in = CentralLimits(max_jobs=limits.shadow_max_jobs, max_queued=limits.shadow_max_queued)
    return _counted(DemandObserved(at=at, by=by, ce=ce, limits=stand_in, limits_from="site_file"), waiting)


def _counted(limited: DemandObserved, waiting: WaitingJobs | None) -> DemandObserved:
    if waiting is None or waiting.count is None:
        code = "" if waiting is None or waiting.code is None else f" (code {waiting.code})"
        why = f"waiting jobs: the broker did not count{code}"
        return msgspec.structs.replace(limited, unknown_because=why, unknown_kind="not_counted")
    return msgspec.structs.replace(limited, waiting=waiting.count)


def unknown(ce: str, at: datetime, by: str, why: str, kind: str) -> DemandObserved:
    """No number is known, and why, also in one word."""
    return DemandObserved(at=at, by=by, ce=ce, unknown_because=why, unknown_kind=kind)


def result(observed: DemandObserved) -> str:
    """What came of the poll in one word, for counters."""
    return observed.unknown_kind or ("locked" if observed.locked else "known")


def state(observed: DemandObserved) -> str:
    """The state in words; only a change of it is worth a log line, the numbers are on the bus."""
    if observed.unknown_because:
        return f"demand unknown: {observed.unknown_because}"
    if observed.locked:
        return "centrally locked (or unknown there): nothing is submitted until it is opened"
    return "open, demand known"


def back_off_s(interval_s: float, failures: int) -> float:
    """How long until the next poll after so many failures in a row: doubling, up to 30 s or one longer interval."""
    if failures == 0:
        return interval_s
    return min(interval_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS), max(interval_s, MOST_BACK_OFF_S))


def pause_s(interval_s: float, failures: int, jitter: float) -> float:
    """From the start of one poll to the next: interval or back-off, a tenth shorter to longer by `jitter` 0..1."""
    return back_off_s(interval_s, failures) * (1.0 + SPREAD * (2.0 * jitter - 1.0))


def longest_pause_s(interval_s: float) -> float:
    """No pause is longer, whatever happens."""
    return max(interval_s, MOST_BACK_OFF_S) * (1.0 + SPREAD)


def is_worth_asking(changes: int, failures: int) -> bool:
    """Whether so many changed job agents since the last poll bring the next one forward; never into a back-off."""
    return failures == 0 and changes >= BURST_CHANGES
