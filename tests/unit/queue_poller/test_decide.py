from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.alice.answers import FreeSlots, WaitingJobs
from libs.events.messages import CentralLimits, DemandObserved, SiteConfigObserved
from libs.runtime.site import Limits
from services.queue_poller import decide, settings
from tests.unit.slurm_submitter.sites import a_ce

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
    assert decide.result(found) == "known"


def test_a_locked_ce_is_known() -> None:
    """Locked is a state of its own, neither unknown nor zero."""
    found = demand(FreeSlots(-2), None)
    assert (found.locked, found.waiting, found.unknown_because) == (True, None, "")
    assert "locked" in decide.state(found)
    assert decide.result(found) == "locked"


@pytest.mark.parametrize(
    ("free", "waiting", "words", "kind"),
    [
        (FreeSlots(None), None, "database", "database_away"),
        (FreeSlots(1), None, "host unknown", "unknown_host"),
        (FreeSlots(2), None, "could not be updated", "host_not_updated"),
        (FreeSlots(3), None, "no limits", "no_limits"),
        (FreeSlots(7), None, "unknown code 7", "unknown_code"),
        (FreeSlots(0, None, 5), None, "free slots", "unknown_code"),
        (FreeSlots(0, 5, None), None, "free slots", "unknown_code"),
        (FreeSlots(0, 1, 1), None, "did not count", "not_counted"),
        (FreeSlots(0, 1, 1), WaitingJobs(None, 0), "did not count (code 0)", "not_counted"),
        (FreeSlots(0, 1, 1), WaitingJobs(None, None), "did not count", "not_counted"),
    ],
)
def test_whatever_was_not_answered_is_unknown(
    free: FreeSlots, waiting: WaitingJobs | None, words: str, kind: str
) -> None:
    """No number is made up, and the reason is said, also in one word."""
    found = demand(free, waiting)
    assert found.waiting is None
    assert words in found.unknown_because
    assert found.unknown_kind == decide.result(found) == kind
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
        assert found.unknown_kind == "misconfigured"


def test_the_broker_is_told_the_ce_as_it_is_run() -> None:
    """ALICE's users, cores and near sites are added to what the CE says; without them there is only the CE."""
    ce = a_ce(cores=8, ttl_s=3600, partition="a, b,", platform="Linux-aarch64")
    bare = settings.facts(ce, None)
    assert (bare.ttl_s, bare.cores, bare.partitions, bare.platform) == (3600, 8, ("a", "b"), "Linux-aarch64")
    assert (bare.users, bare.no_users, bare.required_cpus, bare.extra_sites) == ((), (), "", ())
    said = SiteConfigObserved(
        at=AT,
        by="queue_poller/1",
        ce="cpu",
        users=["a"],
        no_users=["b"],
        required_cpus=">=8",
        close_storage=["ALICE::NERSC::EOS", "ALICE::CERN::EOS"],
    )
    full = settings.facts(ce, said)
    assert (full.users, full.no_users, full.required_cpus, full.extra_sites) == (("a",), ("b",), ">=8", ("CERN",))
