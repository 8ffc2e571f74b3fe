from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.alice.answers import FreeSlots, WaitingJobs
from libs.events.messages import CentralLimits, DemandObserved
from libs.runtime.site import Limits
from services.queue_poller import decide

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
COUNTS = st.integers(0, 1 << 30)
FREE = st.builds(FreeSlots, st.none() | st.integers(-3, 9), st.none() | COUNTS, st.none() | COUNTS)
WAITING = st.none() | st.builds(WaitingJobs, st.none() | COUNTS, st.none() | st.integers(0, 2))


def demand(free: FreeSlots, waiting: WaitingJobs | None) -> DemandObserved:
    return decide.demand("ALICE::X::Y", AT, "queue_poller/1", free, waiting)


def test_an_open_ce_has_its_limits_and_the_count() -> None:
    """Both answers known give a known demand."""
    found = demand(FreeSlots(0, 100, 10), WaitingJobs(49, 1))
    assert found == DemandObserved(
        at=AT, by="queue_poller/1", ce="ALICE::X::Y", waiting=49, limits=CentralLimits(max_jobs=100, max_queued=10)
    )
    assert decide.state(found) == "open, demand known"


def test_a_locked_ce_is_known() -> None:
    """Locked is a state of its own, neither unknown nor zero."""
    found = demand(FreeSlots(-2), None)
    assert (found.locked, found.waiting, found.unknown_because) == (True, None, "")
    assert "locked" in decide.state(found)


@pytest.mark.parametrize(
    ("free", "waiting", "words"),
    [
        (FreeSlots(None), None, "database"),
        (FreeSlots(1), None, "host unknown"),
        (FreeSlots(3), None, "no limits"),
        (FreeSlots(0, None, 5), None, "free slots"),
        (FreeSlots(0, 5, None), None, "free slots"),
        (FreeSlots(0, 1, 1), None, "did not count"),
        (FreeSlots(0, 1, 1), WaitingJobs(None, 0), "did not count (code 0)"),
        (FreeSlots(0, 1, 1), WaitingJobs(None, None), "did not count"),
    ],
)
def test_whatever_was_not_answered_is_unknown(free: FreeSlots, waiting: WaitingJobs | None, words: str) -> None:
    """No number is made up, and the reason is said."""
    found = demand(free, waiting)
    assert found.waiting is None
    assert words in found.unknown_because
    assert decide.state(found) == f"demand unknown: {found.unknown_because}"


@given(FREE, WAITING)
def test_demand_is_known_only_from_numbers_that_were_answered(free: FreeSlots, waiting: WaitingJobs | None) -> None:
    """Exactly one of known, locked and unknown holds, and each number is the answered one."""
    found = demand(free, waiting)
    assert [found.waiting is not None, found.locked, bool(found.unknown_because)].count(True) == 1
    if found.waiting is not None:
        assert waiting is not None
        assert found.limits is not None
        assert (found.waiting, found.limits.max_jobs, found.limits.max_queued) == (
            waiting.count,
            free.max_jobs,
            free.max_queued,
        )


@given(st.floats(0.1, 1000), st.integers(0, 10_000))
def test_back_off_grows_and_is_bounded(interval_s: float, failures: int) -> None:
    """Never faster than the interval, never slower than 30 s or one interval, never shrinking with more failures."""
    found = decide.back_off_s(interval_s, failures)
    assert interval_s <= found <= max(interval_s, 30.0)
    assert found <= decide.back_off_s(interval_s, failures + 1)


@given(st.floats(0.1, 600), st.integers(0, 99), st.floats(0, 1))
def test_a_pause_is_its_back_off_give_or_take_a_tenth(interval_s: float, failures: int, jitter: float) -> None:
    """Jitter spreads the polls, never beyond a tenth, and no pause is above the longest."""
    plain_s = decide.back_off_s(interval_s, failures)
    pause_s = decide.pause_s(interval_s, failures, jitter)
    assert 0.9 * plain_s - 1e-6 <= pause_s <= 1.1 * plain_s + 1e-6
    assert pause_s <= decide.longest_pause_s(interval_s) + 1e-6
    assert decide.pause_s(interval_s, failures, 0.5) == pytest.approx(plain_s)


@given(st.integers(0, 50), st.integers(0, 3))
def test_only_a_burst_outside_a_back_off_brings_a_poll_forward(changes: int, failures: int) -> None:
    """Fewer than ten changes wait for the next turn, and central services that fail are not asked sooner."""
    assert decide.is_worth_asking(changes, failures) == (changes >= 10 and failures == 0)


def test_shadow_demand_has_the_limits_of_the_site_file() -> None:
    """The count is the broker's, the limits are ours and say so; without them, or without a count, it is unknown."""
    limits = Limits(shadow_max_jobs=7, shadow_max_queued=3)
    found = decide.shadow_demand("cpu", AT, "queue_poller/1", limits, WaitingJobs(49, 1))
    assert (found.waiting, found.limits) == (49, CentralLimits(max_jobs=7, max_queued=3))
    assert found.limits_from == "site_file"
    found = decide.shadow_demand("cpu", AT, "queue_poller/1", limits, WaitingJobs(None, 0))
    assert (found.waiting, "did not count (code 0)" in found.unknown_because) == (None, True)
    for half in (Limits(), Limits(shadow_max_jobs=7), Limits(shadow_max_queued=3)):
        found = decide.shadow_demand("cpu", AT, "queue_poller/1", half, WaitingJobs(49, 1))
        assert "shadow_max_jobs" in found.unknown_because
