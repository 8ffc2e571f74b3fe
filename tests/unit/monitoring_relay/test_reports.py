"""The CE's own numbers: what is known is told, what is unknown is left out, nothing is ever negative."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import BatchQueueObserved, CentralLimits, DemandObserved
from services.monitoring_relay import reports

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CE = "ALICE::Perlmutter::CPU"


def listing(
    queued: int | None = 3, running: int | None = 5, unaccounted: int | None = 1, age_s: float = 10
) -> BatchQueueObserved:
    """A listing of some age."""
    at = NOW - timedelta(seconds=age_s)
    return BatchQueueObserved(
        at=at,
        by="status_tracker/x",
        ce=CE,
        machine="perlmutter",
        listed_at=at,
        queued=queued,
        running=running,
        unaccounted=unaccounted,
    )


def demand(limits: CentralLimits | None, age_s: float = 10, locked: bool = False) -> DemandObserved:
    """An answer of the central services of some age."""
    at = NOW - timedelta(seconds=age_s)
    return DemandObserved(at=at, by="queue_poller/x", ce=CE, limits=limits, locked=locked)


def numbers(queue: BatchQueueObserved | None, answer: DemandObserved | None) -> dict[str, int]:
    """The numbers at NOW, with five minutes for both ages."""
    return reports.numbers(queue, answer, now=NOW, queue_max_age_s=300, demand_max_age_s=300)


def test_all_three_numbers() -> None:
    """Running is what really runs; slots is the tighter of both central limits, unaccounted agents included."""
    assert numbers(listing(), demand(CentralLimits(max_jobs=20, max_queued=10))) == {
        "jobAgents_queued": 3,
        "jobAgents_running": 5,
        "jobAgents_slots": 7,
    }
    assert numbers(listing(), demand(CentralLimits(max_jobs=12, max_queued=10)))["jobAgents_slots"] == 3
    assert reports.cluster_name("Perlmutter", CE) == "Perlmutter_CE_ALICE::Perlmutter::CPU"


def test_unknown_is_left_out() -> None:
    """Without a complete, recent listing nothing is told; without recent limits no slots are."""
    limits = demand(CentralLimits(max_jobs=20, max_queued=10))
    for queue in (None, listing(None), listing(running=None), listing(unaccounted=None), listing(age_s=301)):
        assert numbers(queue, limits) == {}
    known = {"jobAgents_queued": 3, "jobAgents_running": 5}
    for answer in (None, demand(None), demand(CentralLimits(max_jobs=20, max_queued=10), age_s=301)):
        assert numbers(listing(), answer) == known


def test_a_locked_ce_has_no_slots() -> None:
    """A CE that is locked centrally reports no free slots, whatever its limits."""
    answer = demand(CentralLimits(max_jobs=20, max_queued=10), locked=True)
    assert numbers(listing(), answer)["jobAgents_slots"] == 0
    assert numbers(listing(), demand(None, locked=True))["jobAgents_slots"] == 0


COUNT = st.integers(0, 10_000)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_never_negative(queued: int, running: int, unaccounted: int, max_jobs: int, max_queued: int) -> None:
    """No number is ever negative, and slots never exceed a limit."""
    limits = CentralLimits(max_jobs=max_jobs, max_queued=max_queued)
    found = numbers(listing(queued, running, unaccounted), demand(limits))
    assert min(found.values()) >= 0
    assert found["jobAgents_slots"] <= min(max_jobs, max_queued)


def test_counts_go_out_as_they_are() -> None:
    """The message carries every count, by destination and by reason."""
    counts = reports.Counts(since=NOW, received=5, refused=1, published=4, kernel_drops=2)
    counts.forwarded["ml:8884"] += 3
    counts.dropped["ring_full"] += 1
    message = counts.observed("edge", NOW, "monitoring_relay/x")
    assert (message.relay, message.since, message.received, message.refused) == ("edge", NOW, 5, 1)
    assert (message.published, message.kernel_drops) == (4, 2)
    assert (message.forwarded, message.dropped) == ({"ml:8884": 3}, {"ring_full": 1})
