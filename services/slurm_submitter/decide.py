"""How many job agents to submit now, and why. Pure: numbers and `now` in, a decision out.

    submit = max(0, min(ceil(waiting / grid_jobs_per_agent) - queued - unlisted - starting,
                        max_queued - queued - unlisted,
                        max_jobs - active - unlisted,
                        user_jobs_in_qos limit - user_jobs_in_qos - unlisted of every CE,
                        agents_per_decision))

and 0 when anything needed is unknown or stale, when the CE is locked, in an outage, while backing off, or in shadow
mode, where the number it would have been is told. With constant demand and no starts, the total
ever submitted never exceeds ceil(waiting / grid_jobs_per_agent).
"""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import (
    BatchQueueObserved,
    DecisionInputs,
    DemandObserved,
    FacilityObserved,
    JobAgent,
    Submission,
)
from libs.runtime.site import Ce

ALIVE = ("intended", "accepted", "unclear", "adopted")
OVER = ("cancelled", "completed")
BACK_OFF_FIRST_S = 15.0
BACK_OFF_MOST_S = 900.0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """How many job agents to submit, which limit bound, each limit's room, and one sentence for people."""

    submit: int
    bound: str
    why: str
    limits: dict[str, int]


def unlisted(submissions: Iterable[Submission], agents: dict[str, JobAgent], listed_at: datetime | None) -> int:
    """Agents of living submissions that the observation of `listed_at` did not count and no record says ended.

    A record made after that observation does not help it: its agent is in no count yet.
    """
    missing = 0
    for submission in submissions:
        if submission.state not in ALIVE:
            continue
        for index in range(submission.agents):
            agent = agents.get(f"{submission.name}.{index}")
            if agent is None or listed_at is None or agent.first_listed_at > listed_at:
                missing += 1
    return missing


def starting(agents: Iterable[JobAgent], ce: str, demand: DemandObserved | None, match_lag_s: float) -> int:
    """Agents of the CE whose grid jobs `demand` may still count as waiting, because they started too lately."""
    if demand is None:
        return 0
    lately = demand.at - timedelta(seconds=match_lag_s)
    return sum(
        agent.ce == ce
        and agent.start_at is not None
        and agent.start_at > lately
        and (agent.end_at is None or agent.end_at > demand.at)
        for agent in agents
    )


def backing_off_until(submissions: Iterable[Submission], ce: str) -> datetime | None:
    """After refusals in a row the next try waits 15 s, 30 s, ... at most 15 min from the last. None: no refusal."""
    of_ce = sorted((one for one in submissions if one.ce == ce), key=lambda one: one.intended_at)
    failed = [one for one in of_ce if one.state in {"refused", "abandoned"}]
    good = [one.intended_at for one in of_ce if one.state in {"accepted", "adopted"}]
    in_a_row = [one for one in failed if not good or one.intended_at > good[-1]]
    if not in_a_row:
        return None
    wait_s = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2.0 ** min(len(in_a_row) - 1, 10))
    return max(one.changed_at for one in in_a_row) + timedelta(seconds=wait_s)


def gather(
    demand: DemandObserved | None,
    listing: BatchQueueObserved | None,
    *,
    unlisted: int,
    unlisted_all_ces: int,
    starting: int,
    qos: str,
    now: datetime,
) -> DecisionInputs:
    """The inputs of one decision as the journal keeps them."""
    limits = demand.limits if demand else None
    by_qos = listing.user_jobs_by_qos if listing else None
    return DecisionInputs(
        waiting=demand.waiting if demand else None,
        max_jobs=limits.max_jobs if limits else None,
        max_queued=limits.max_queued if limits else None,
        queued=listing.queued if listing else None,
        running=listing.running if listing else None,
        unaccounted=listing.unaccounted if listing else None,
        unlisted=unlisted,
        unlisted_all_ces=unlisted_all_ces,
        starting=starting,
        user_jobs_in_qos=None if by_qos is None else by_qos.get(qos, 0),
        demand_age_s=(now - demand.at).total_seconds() if demand else None,
        listing_age_s=(now - listing.listed_at).total_seconds() if listing else None,
    )


def decide(
    ce: Ce,
    inputs: DecisionInputs,
    demand: DemandObserved | None,
    listing: BatchQueueObserved | None,
    facility: FacilityObserved | None,
    *,
    backing_off_until: datetime | None,
    now: datetime,
) -> Decision:
    """The rules. Nothing is submitted on unknown; the first reason not to submit is the one that is told."""
    closed = (
        _unknown(ce, inputs, demand, listing)
        or _locked(demand)
        or _outage(ce, facility, now)
        or _backing_off(backing_off_until, now)
    )
    if closed is not None:
        bound, reason = closed
        return Decision(submit=0, bound=bound, why=f"0 submitted because {reason}", limits={})
    decision = _bounded(ce, inputs)
    return _shadow(decision) if ce.mode == "shadow" else decision


def _unknown(
    ce: Ce, inputs: DecisionInputs, demand: DemandObserved | None, listing: BatchQueueObserved | None
) -> tuple[str, str] | None:
    if demand is None:
        return "unknown_demand", "the central services have not been asked yet"
    if demand.unknown_because:
        return "unknown_demand", f"the demand is unknown: {demand.unknown_because}"
    if (inputs.demand_age_s or 0.0) > ce.demand_max_age_s:
        return "stale_demand", f"the demand is {inputs.demand_age_s:.0f} s old (at most {ce.demand_max_age_s:.0f} s)"
    if not demand.locked and (demand.waiting is None or demand.limits is None):
        return "unknown_demand", "the central services gave no number of waiting grid jobs, or no limits"
    if listing is None:
        return "unknown_batch_queue", "the batch queue has not been listed yet"
    if listing.unknown_because:
        return "unknown_batch_queue", f"the batch queue is unknown: {listing.unknown_because}"
    if (inputs.listing_age_s or 0.0) > ce.listing_max_age_s:
        age_s = inputs.listing_age_s or 0.0
        return "stale_batch_queue", f"the listing is {age_s:.0f} s old (at most {ce.listing_max_age_s:.0f} s)"
    counts = (listing.queued, listing.running, listing.unaccounted, listing.user_jobs_by_qos)
    if any(count is None for count in counts):
        return "unknown_batch_queue", "the listing lacks a count"
    return None


def _locked(demand: DemandObserved | None) -> tuple[str, str] | None:
    return ("locked", "the CE is locked centrally") if demand is not None and demand.locked else None


def _backing_off(until: datetime | None, now: datetime) -> tuple[str, str] | None:
    if until is None or now >= until:
        return None
    seconds = (until - now).total_seconds()
    return "backing_off", f"the last submissions failed; the next try is in {seconds:.0f} s"


def _outage(ce: Ce, facility: FacilityObserved | None, now: datetime) -> tuple[str, str] | None:
    if facility is None:
        return None
    if facility.status == "unavailable":
        return "outage", f"{ce.machine} is unavailable ({'; '.join(facility.notes) or 'no note'})"
    for outage in facility.planned_outages:
        if outage.status.lower() in OVER:
            continue
        if outage.start_at <= now < outage.end_at:
            return "outage", f"{ce.machine} is in the outage {outage.name!r} until {outage.end_at:%Y-%m-%d %H:%M} UTC"
    return None


def _shadow(decision: Decision) -> Decision:
    why = f"0 submitted because the CE is in shadow mode; active it would be: {decision.why}"
    return msgspec.structs.replace(decision, submit=0, bound="shadow", why=why)


def _bounded(ce: Ce, inputs: DecisionInputs) -> Decision:
    """Each limit's room; the smallest binds, the first of equals is told. Nothing is unknown any more here."""
    waiting, max_jobs, max_queued = inputs.waiting or 0, inputs.max_jobs or 0, inputs.max_queued or 0
    queued, running, unaccounted = inputs.queued or 0, inputs.running or 0, inputs.unaccounted or 0
    active = queued + running + unaccounted
    wanted = math.ceil(waiting / ce.grid_jobs_per_agent)
    state = f"{queued} queued, {running} running, {unaccounted} unaccounted, {inputs.unlisted} unlisted"
    rooms = {
        "demand": wanted - queued - inputs.unlisted - inputs.starting,
        "max_queued": max_queued - queued - inputs.unlisted,
        "max_jobs": max_jobs - active - inputs.unlisted,
        "submit_limit": ce.limits.user_jobs_in_qos - (inputs.user_jobs_in_qos or 0) - inputs.unlisted_all_ces,
        "agents_per_decision": ce.limits.agents_per_decision,
    }
    sayings = {
        "demand": f"{waiting} grid jobs wait: {state}, {inputs.starting} just starting",
        "max_queued": f"max_queued {max_queued}: {state}",
        "max_jobs": f"max_jobs {max_jobs}: {state}",
        "submit_limit": f"the submit limit {ce.limits.user_jobs_in_qos} of QOS {ce.batch.qos}: "
        f"{inputs.user_jobs_in_qos} batch jobs of our user, {inputs.unlisted_all_ces} unlisted",
        "agents_per_decision": f"agents_per_decision {ce.limits.agents_per_decision}",
    }
    bound = min(rooms, key=lambda limit: rooms[limit])
    submit = max(0, rooms[bound])
    return Decision(submit=submit, bound=bound, why=f"{submit} submitted, bound by {sayings[bound]}", limits=rooms)
