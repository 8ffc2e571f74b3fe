"""What the CE itself tells MonALISA: the three numbers that JAliEn's ComputingElement reports. Pure.

https://gitlab.cern.ch/jalien/jalien/-/blob/master/src/main/java/alien/site/ComputingElement.java
"""

from datetime import datetime, timedelta

from libs.events.messages import BatchQueueObserved, DemandObserved

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
