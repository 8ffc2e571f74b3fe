"""What the relay itself has to say: the CE's numbers to MonALISA, its own counts to the bus. Pure.

https://gitlab.cern.ch/jalien/jalien/-/blob/master/src/main/java/alien/site/ComputingElement.java
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.events.messages import BatchQueueObserved, DemandObserved, MonitoringObserved

QUEUED = "jobAgents_queued"
RUNNING = "jobAgents_running"
SLOTS = "jobAgents_slots"


def cluster_name(site: str, ce: str) -> str:
    """The cluster that MonALISA's ALICE filter takes for CEs: farm = what stands before `_CE_`."""
    return f"{site}_CE_{ce}"


def numbers(
    queue: BatchQueueObserved | None,
    demand: DemandObserved | None,
    *,
    now: datetime,
    queue_max_age_s: float,
    demand_max_age_s: float,
) -> dict[str, int]:
    """The numbers that are known now. Nothing without a complete, recent listing; no slots without recent limits.

    Running means really running. Slots is what ALICE's limits leave free, never below zero, and 0 for a locked CE.
    """
    if queue is None or queue.queued is None or queue.running is None or queue.unaccounted is None:
        return {}
    if now - queue.listed_at > timedelta(seconds=queue_max_age_s):
        return {}
    known = {QUEUED: queue.queued, RUNNING: queue.running}
    if demand is None or now - demand.at > timedelta(seconds=demand_max_age_s):
        return known
    if demand.locked:
        return {**known, SLOTS: 0}
    if demand.limits is None:
        return known
    active = queue.queued + queue.running + queue.unaccounted
    free = min(demand.limits.max_jobs - active, demand.limits.max_queued - queue.queued)
    return {**known, SLOTS: max(0, free)}


@dataclass(slots=True)
class Counts:
    """Datagrams since `since`; they only grow.

    Each one `received` is afterwards `refused` (nothing in it could be read), or `dropped` with a reason, or once
    `forwarded` to each destination. `salvaged` are those forwarded although broken. `own_reports` are not in `received`
    nor `forwarded`. `kernel_drops` never reached us: the socket's buffer was full.
    """

    since: datetime
    received: int = 0
    salvaged: int = 0
    refused: int = 0
    published: int = 0
    kernel_drops: int = 0
    forwarded: Counter[str] = field(default_factory=Counter)
    own_reports: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def observed(self, relay: str, at: datetime, by: str) -> MonitoringObserved:
        """The counts as `monitoring.observed` carries them."""
        return MonitoringObserved(
            at=at,
            by=by,
            relay=relay,
            since=self.since,
            received=self.received,
            published=self.published,
            refused=self.refused,
            forwarded=dict(self.forwarded),
            dropped=dict(self.dropped),
            kernel_drops=self.kernel_drops,
        )
