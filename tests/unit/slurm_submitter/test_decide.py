"""The decision: examples that people argue about, and properties that must hold for any numbers."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import (
    BatchQueueObserved,
    CentralLimits,
    DemandObserved,
    FacilityObserved,
    Outage,
    Submission,
)
from libs.runtime.site import Ce, Limits
from services.slurm_submitter.decide import Decision, backing_off_until, decide, gather, starting, unlisted
from tests.unit.slurm_submitter.sites import NOW, SECOND, a_ce, agent, demand, listing, submission


def decided(
    observed: DemandObserved | None,
    listed: BatchQueueObserved | None,
    *,
    ce: Ce | None = None,
    facility: FacilityObserved | None = None,
    off: Any = None,
    **numbers: int,
) -> Decision:
    counts = {"unlisted": 0, "unlisted_all_ces": 0, "starting": 0} | numbers
    inputs = gather(observed, listed, **counts, qos="regular", now=NOW)
    return decide(ce or a_ce(), inputs, observed, listed, facility, backing_off_until=off, now=NOW)


def facility(**changes: Any) -> FacilityObserved:
    about: dict[str, Any] = {"at": NOW, "by": "status_tracker/1", "machine": "perlmutter", "status": "active"}
    return FacilityObserved(**about | changes)


def outage(**changes: Any) -> Outage:
    about: dict[str, Any] = {
        "name": "maintenance",
        "start_at": NOW - SECOND,
        "end_at": NOW + 3600 * SECOND,
        "status": "Planned",
    }
    return Outage(**about | changes)


SEVEN = a_ce(limits=Limits(agents_per_decision=7))
FULL = listing(user_jobs_by_qos={"regular": 4990})
CALLED_OFF = facility(planned_outages=[outage(status="Cancelled")])
OVER = facility(planned_outages=[outage(end_at=NOW)])
CASES = [
    ("demand", 10, {"observed": demand(10), "listed": listing()}),
    ("demand", 3, {"observed": demand(10), "listed": listing(queued=4), "unlisted": 2, "starting": 1}),
    ("demand", 0, {"observed": demand(0), "listed": listing()}),
    ("demand", 5, {"observed": demand(10), "listed": listing(), "ce": a_ce(grid_jobs_per_agent=2)}),
    ("demand", 6, {"observed": demand(11), "listed": listing(), "ce": a_ce(grid_jobs_per_agent=2)}),
    ("max_queued", 80, {"observed": demand(500), "listed": listing(queued=18), "unlisted": 2}),
    ("max_queued", 0, {"observed": demand(500), "listed": listing(queued=100)}),
    ("max_jobs", 5, {"observed": demand(500), "listed": listing(running=993, unaccounted=2)}),
    ("agents_per_decision", 7, {"observed": demand(50), "listed": listing(), "ce": SEVEN}),
    ("submit_limit", 2, {"observed": demand(50), "listed": FULL, "unlisted_all_ces": 8}),
    ("locked", 0, {"observed": demand(None, locked=True, limits=None), "listed": listing()}),
    ("unknown_demand", 0, {"observed": None, "listed": listing()}),
    ("unknown_demand", 0, {"observed": demand(None, unknown_because="no answer"), "listed": listing()}),
    ("unknown_demand", 0, {"observed": demand(5, unknown_because="no answer"), "listed": listing()}),
    ("unknown_demand", 0, {"observed": demand(None), "listed": listing()}),
    ("unknown_demand", 0, {"observed": demand(5, limits=None), "listed": listing()}),
    ("stale_demand", 0, {"observed": demand(at=NOW - 301 * SECOND), "listed": listing()}),
    ("unknown_batch_queue", 0, {"observed": demand(), "listed": None}),
    ("unknown_batch_queue", 0, {"observed": demand(), "listed": listing(unknown_because="HTTP 503")}),
    ("unknown_batch_queue", 0, {"observed": demand(), "listed": listing(unaccounted=None)}),
    ("stale_batch_queue", 0, {"observed": demand(), "listed": listing(listed_at=NOW - 301 * SECOND)}),
    ("outage", 0, {"observed": demand(), "listed": listing(), "facility": facility(status="unavailable")}),
    ("outage", 0, {"observed": demand(), "listed": listing(), "facility": facility(planned_outages=[outage()])}),
    ("demand", 10, {"observed": demand(), "listed": listing(), "facility": CALLED_OFF}),
    ("demand", 10, {"observed": demand(), "listed": listing(), "facility": OVER}),
    ("demand", 10, {"observed": demand(), "listed": listing(), "facility": facility(status="degraded")}),
    ("backing_off", 0, {"observed": demand(), "listed": listing(), "off": NOW + SECOND}),
    ("demand", 10, {"observed": demand(), "listed": listing(), "off": NOW}),
]  # fmt: skip


@pytest.mark.parametrize(("bound", "submit", "given"), CASES)
def test_examples(bound: str, submit: int, given: dict[str, Any]) -> None:
    """Each limit binds where it should, and the answer says which and with which numbers."""
    decision = decided(given.pop("observed"), given.pop("listed"), **dict(given))
    assert (decision.bound, decision.submit) == (bound, submit)
    assert decision.why.startswith(f"{submit} submitted")


count = st.integers(0, 10_000)


@given(
    waiting=count, queued=count, running=count, unaccounted=count, missing=count, begun=count,
    max_jobs=count, max_queued=count, per_agent=st.integers(1, 64), in_qos=count, missing_all=count,
)  # fmt: skip
def test_never_beyond_a_limit(
    waiting: int, queued: int, running: int, unaccounted: int, missing: int, begun: int,
    max_jobs: int, max_queued: int, per_agent: int, in_qos: int, missing_all: int,
) -> None:  # fmt: skip
    """Whatever the numbers: never negative, and no limit is exceeded by what is submitted."""
    observed = demand(waiting, limits=CentralLimits(max_jobs=max_jobs, max_queued=max_queued))
    listed = listing(queued, running, unaccounted=unaccounted, user_jobs_by_qos={"regular": in_qos})
    ce = a_ce(grid_jobs_per_agent=per_agent)
    submit = decided(
        observed, listed, ce=ce, unlisted=missing, unlisted_all_ces=missing + missing_all, starting=begun
    ).submit
    assert submit >= 0
    if submit:
        assert queued + missing + begun + submit <= math.ceil(waiting / per_agent)
        assert queued + missing + submit <= max_queued
        assert queued + running + unaccounted + missing + submit <= max_jobs
        assert in_qos + missing + missing_all + submit <= ce.limits.user_jobs_in_qos
        assert submit <= ce.limits.agents_per_decision


@given(waiting=st.integers(0, 500), turns=st.integers(1, 30), seen=st.lists(st.integers(0, 500), max_size=30))
def test_constant_demand_is_met_once(waiting: int, turns: int, seen: list[int]) -> None:
    """With constant demand and no starts the total ever submitted never exceeds it, however late listings are."""
    total = listed = 0
    for turn in range(turns):
        listed = max(listed, min(total, seen[turn] if turn < len(seen) else 0))
        total += decided(
            demand(waiting, limits=CentralLimits(max_jobs=10**6, max_queued=10**6)),
            listing(queued=listed),
            unlisted=total - listed,
            unlisted_all_ces=total - listed,
        ).submit
        assert total <= waiting


def test_unlisted_counts_what_no_observation_counted() -> None:
    """Without a record, or with one made after the observation, an agent is unlisted; the dead are not."""
    seen_at = NOW - 3 * SECOND
    one = submission(agents=3)
    records = {
        "nacre-cpu-1.0": agent(index=0),
        "nacre-cpu-1.1": agent(index=1, first_listed_at=seen_at + SECOND),
    }
    assert unlisted([one], records, seen_at) == 2
    assert unlisted([one], records, None) == 3
    alive: list[Submission] = [submission(state=state) for state in ("intended", "accepted", "unclear", "adopted")]
    assert unlisted(alive, {}, seen_at) == sum(one.agents for one in alive)
    dead: list[Submission] = [submission(state=state) for state in ("refused", "abandoned", "forgotten")]
    assert unlisted(dead, {}, seen_at) == 0


def test_starting_agents_are_those_that_demand_may_still_count() -> None:
    """Agents that started after the demand was seen, or shortly before; not those that ended before, nor other CEs'."""
    observed = demand(at=NOW)
    agents = [
        agent(start_at=NOW - 30 * SECOND, state="running"),
        agent(start_at=NOW - 90 * SECOND, state="running"),
        agent(start_at=NOW - 30 * SECOND, end_at=NOW - SECOND, state="ended"),
        agent(start_at=NOW + SECOND, end_at=NOW + 2 * SECOND, state="ended"),
        agent(start_at=NOW, ce="gpu", state="running"),
        agent(),
    ]
    assert starting(agents, "cpu", observed, 60.0) == 2
    assert starting(agents, "cpu", None, 60.0) == 0


def test_back_off_doubles_and_ends_with_success() -> None:
    """Refusals in a row wait 15 s, 30 s, ...; an accepted submission clears them; other CEs do not count."""
    refused = [
        submission(f"n{i}", state="refused", intended_at=NOW + i * SECOND, changed_at=NOW + i * SECOND)
        for i in range(3)
    ]
    assert backing_off_until([], "cpu") is None
    assert backing_off_until(refused[:1], "cpu") == NOW + timedelta(seconds=15)
    assert backing_off_until(refused, "cpu") == NOW + timedelta(seconds=2 + 60)
    assert backing_off_until([*refused, submission(intended_at=NOW + 9 * SECOND)], "cpu") is None
    assert backing_off_until(refused, "gpu") is None
    many = [submission(f"n{i}", state="abandoned", intended_at=NOW, changed_at=NOW) for i in range(40)]
    assert backing_off_until(many, "cpu") == NOW + timedelta(seconds=900)


def test_shadow_mode_submits_nothing_and_tells_what_it_would() -> None:
    """The numbers and rooms are those of the active CE; what closes an active CE is told as it is."""
    active = decided(demand(10), listing())
    shadow = decided(demand(10), listing(), ce=a_ce(mode="shadow"))
    assert (active.submit, shadow.submit, shadow.bound) == (10, 0, "shadow")
    assert shadow.why.startswith("0 submitted because the CE is in shadow mode")
    assert active.why in shadow.why
    assert shadow.limits == active.limits
    locked = decided(demand(None, locked=True, limits=None), listing(), ce=a_ce(mode="shadow"))
    assert (locked.submit, locked.bound) == (0, "locked")


@given(waiting=count, queued=count, running=count)
def test_shadow_mode_never_submits(waiting: int, queued: int, running: int) -> None:
    """Whatever the numbers."""
    assert decided(demand(waiting), listing(queued, running), ce=a_ce(mode="shadow")).submit == 0
