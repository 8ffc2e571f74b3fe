from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import JobAgent
from libs.slurm.rows import BatchJob
from services.status_tracker.rules import absence
from tests.unit.status_tracker.made import AT, NAME, after, job, record, submission


def task(index: int, state: str = "running", **changes: Any) -> JobAgent:
    about = {"agent": f"{NAME}.{index}", "index": index, "job_id": f"7_{index}", "start_at": AT}
    return record(state, **about | changes)


def test_what_sacct_is_asked() -> None:
    """By a task's own id where known, by name else, in a window from the oldest; nothing when nobody is missing."""
    assert absence.questions([], []) is None
    asked = absence.questions(
        [
            task(3),
            record("unaccounted", job_id="", submission="s", submit_at=None, first_listed_at=after(-60)),
        ],
        [(submission("accepted", job_id="9"), "a"), (submission("unclear", name="u", intended_at=after(-90)), "b")],
    )
    assert asked is not None
    assert (asked.job_ids, asked.names) == (("7_3", "9"), ("s", "u"))
    assert asked.since == after(-90) - timedelta(hours=1)
    assert asked.deferred == frozenset()


def test_many_of_one_array_are_asked_for_by_the_array() -> None:
    """One id stands for all of them."""
    many = absence.questions([task(index) for index in range(absence.WHOLE_ARRAY_FROM)], [])
    assert many is not None and many.job_ids == ("7",)


def test_a_waiting_task_that_stays_missing_is_asked_for_by_its_array() -> None:
    """If it was cancelled it has no row of its own, but its array has."""
    lost = task(3, "unaccounted", start_at=None, slurm_state="PENDING")
    assert (asked := absence.questions([lost], [])) is not None and asked.job_ids == ("7",)
    ran = task(3, "unaccounted", start_at=None, slurm_state="RUNNING")
    assert (asked := absence.questions([ran], [])) is not None and asked.job_ids == ("7_3",)


def test_requests_stay_small() -> None:
    """Beyond the bound the youngest and those that were missed before wait for a later cycle, and are not judged."""
    singles = [
        task(0, agent=f"a{number}", job_id=str(number), submit_at=after(number))
        for number in range(absence.ASKED_AT_MOST)
    ]
    missed = task(0, "unaccounted", agent="missed", job_id="100000", submit_at=after(-9))
    late = submission("unclear", name="late", intended_at=after(10_000))
    asked = absence.questions([missed, *singles], [(late, "late.0")])
    assert asked is not None
    assert len(asked.job_ids) + len(asked.names) == absence.ASKED_AT_MOST
    assert asked.deferred == {"missed", "late"}
    assert asked.since == AT - timedelta(hours=1)


def test_who_is_absent() -> None:
    """Active agents that no row showed; those that are over are not missed."""
    known = [record(state, agent=state) for state in ("queued", "running", "unaccounted", "ended", "forgotten")]
    assert [one.agent for one in absence.absent(known, {"running"})] == ["queued", "unaccounted"]


def test_who_is_unresolved() -> None:
    """Agents of open submissions without record and sighting, unless the intent is younger than the listing."""
    one = submission("unclear", agents=3)
    found = absence.unresolved([one], {f"{NAME}.0"}, {f"{NAME}.1"}, after(1))
    assert [(each.name, key) for each, key in found] == [(NAME, f"{NAME}.2")]
    several = absence.unresolved([submission("unclear", agents=4, agents_per_job=2)], set(), {f"{NAME}.0.1"}, after(1))
    assert [key for _, key in several] == [f"{NAME}.0.0", f"{NAME}.1.0", f"{NAME}.1.1"]
    assert absence.unresolved([one], set(), set(), AT) == []
    for state in ("refused", "abandoned", "forgotten"):
        assert absence.unresolved([submission(state)], set(), set(), after(1)) == []


def test_too_many_missing_at_once() -> None:
    """More than the share of the active; those judged before do not count again."""
    gone = [record("running"), record("queued")]
    assert absence.too_many(gone, 9, 0.2)
    assert not absence.too_many(gone, 10, 0.2)
    assert not absence.too_many([record("unaccounted")] * 5, 5, 0.2)
    assert not absence.too_many([], 0, 0.2)


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1))
def test_the_share_is_monotonous(missing: int, more: int, share: float) -> None:
    """One more missing agent never makes a listing complete."""
    active = missing + more + 1
    if absence.too_many([record("running")] * missing, active, share):
        assert absence.too_many([record("running")] * (missing + 1), active, share)


def test_overdue_after_the_listing_lag() -> None:
    """Only what Slurm took longer ago than the lag should be listed by now."""
    taken, doubtful = submission("accepted"), submission("unclear")
    unresolved = [(taken, "a"), (taken, "b"), (doubtful, "c")]
    assert absence.overdue(unresolved, after(120), 120) == []
    assert absence.overdue(unresolved, after(121), 120) == [(taken, "a"), (taken, "b")]


def test_in_doubt_beyond_void_after() -> None:
    """An unclear submission that could be given up on this listing, once per submission and by CE."""
    doubtful = submission("unclear")
    intended = submission("intended", name="i")
    unresolved = [(doubtful, "a"), (doubtful, "b"), (submission("accepted"), "c"), (intended, "d")]
    assert absence.undecidable(unresolved, after(720), 120) == {}
    assert absence.undecidable(unresolved, after(721), 120) == {"cpu": [NAME, "i"]}


def test_settled_after_the_settle_time() -> None:
    """Only an agent missing for longer than the settle time may be forgotten."""
    gone = record("unaccounted", missing_since=AT)
    assert absence.settled([gone, record("running")], after(600), 600) == []
    assert absence.settled([gone, record("unaccounted", missing_since=None)], after(601), 600) == [gone]


def cancelled(missing: JobAgent, *rows: BatchJob, at_s: float = 121) -> list[str]:
    found = absence.cancelled_waiting([missing], rows, listed_at=after(at_s), lag_s=120)
    assert all(one.job.state.name == "CANCELLED" and one.job.started_at is None for one in found.values())
    return list(found)


def test_cancelled_while_it_waited() -> None:
    """Its array is known and no live row has it, for longer than the lag: Slurm took it out of the block."""
    gone = task(3, "unaccounted", start_at=None, slurm_state="PENDING", missing_since=AT)
    block = job("PENDING", indices=(1, 2, 4))
    assert cancelled(gone, block) == [gone.agent]
    assert cancelled(gone, job("CANCELLED by 0", indices=None, named=(1, 2))) == [gone.agent]
    assert cancelled(gone, block, at_s=120) == []
    assert cancelled(gone) == []
    assert cancelled(gone, job("PENDING", indices=(3, 4))) == []
    assert cancelled(gone, job("PENDING", indices=None)) == []
    assert cancelled(gone, job("PENDING", indices=(1,), submitted_at=after(5))) == []
    assert cancelled(gone, job("PENDING", indices=(1,), array_job_id=8)) == []
    assert cancelled(gone, job("PENDING", indices=(1,), name="nacre-cpu-20261123t030000-d4e5f6")) == []


def test_who_ran_was_not_cancelled_while_waiting() -> None:
    """Nor one that is not missed yet, or whose id nobody knows; of a plain job any live row is its own."""
    block = job("PENDING", indices=(1, 2))
    assert cancelled(task(3, "unaccounted", missing_since=AT), block) == []
    assert cancelled(task(3, "queued", start_at=None, slurm_state="PENDING"), block) == []
    assert cancelled(task(3, "unaccounted", start_at=None, slurm_state="", job_id="", missing_since=AT), block) == []
    plain = task(0, "unaccounted", start_at=None, slurm_state="PENDING", job_id="7", missing_since=AT, submit_at=None)
    assert cancelled(plain, job("PENDING", indices=())) == []
    found = absence.cancelled_waiting([plain], [job("CANCELLED", indices=())], listed_at=after(121), lag_s=120)
    assert found[plain.agent].job.indices == ()
