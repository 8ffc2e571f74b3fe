from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.status_tracker.rules import absence, counting
from tests.unit.status_tracker.made import AT, CES, NAME, after, job, record, submission


@pytest.mark.parametrize(
    ("name", "ce"),
    [
        (NAME, "cpu"),
        ("nacre-gpu-long-20261123t030000-a1b2c3", "gpu-long"),
        ("nacre-other-20261123t030000-a1b2c3", None),
        ("nacre-cpu", None),
        ("nacre", None),
        ("", None),
        ("stranger-cpu-20261123t030000-a1b2c3", None),
        ("Nacre-cpu-20261123t030000-a1b2c3", None),
    ],
)
def test_names_are_ours_or_not(name: str, ce: str | None) -> None:
    """The CE's short name may hold dashes; another prefix or CE makes a stranger."""
    assert counting.ce_of(name, CES) == ce


def test_a_listing_sorted_out() -> None:
    """Blocks count by their tasks, strangers and ours both in their QOS; ended rows count nowhere."""
    view = counting.view(
        [
            job("PENDING", indices=tuple(range(1, 10))),
            job("RUNNING", indices=(0,)),
            job("RUNNING", name="mine-not", indices=(), qos="debug"),
            job("PENDING", name="mine-not", indices=(0, 1), qos="debug"),
            job("COMPLETED", name="mine-not", indices=()),
            job("COMPLETED", indices=(10,)),
        ],
        CES,
    )
    assert (view.strangers, view.by_qos, view.doubles) == (3, {"regular": 10, "debug": 3}, ())
    assert sorted(sighting.index for sighting in view.ours.values()) == list(range(11))


def test_a_cut_list_is_not_counted() -> None:
    """A row with a cut list is no sighting and no number."""
    view = counting.view([job("PENDING", indices=None), job("PENDING", name="x", indices=None)], CES)
    assert (view.ours, view.strangers, view.by_qos) == ({}, 0, {})


def test_of_two_batch_jobs_with_one_name_the_live_and_younger_is_believed() -> None:
    """Any order gives the same choice, and two live ones are told."""
    old, young = job("RUNNING", array_job_id=7), job("PENDING", array_job_id=8, submitted_at=after(5))
    ended = job("FAILED", array_job_id=9, submitted_at=after(9))
    nameless = job("RUNNING", array_job_id=6, submitted_at=None)
    for rows in ([old, young, ended, nameless], [ended, nameless, young, old]):
        view = counting.view(rows, CES)
        assert view.ours[f"{NAME}.0"].job.array_job_id == 8
        assert set(view.doubles) == {f"{NAME}.0"}
    assert counting.view([old, ended], CES).doubles == ()


def test_counts_are_of_one_ce() -> None:
    """Queued, running and unaccounted of that CE; over is over."""
    records = [
        record("queued"),
        record("running"),
        record("unaccounted"),
        record("ended"),
        record("forgotten"),
        record("running", ce="gpu-long"),
    ]
    counts = counting.count(records, "cpu")
    assert (counts.queued, counts.running, counts.unaccounted) == (1, 1, 1)


def test_what_sacct_is_asked() -> None:
    """By job id where known, by name else, in a window from the oldest; nothing when nobody is missing."""
    assert absence.questions([], []) is None
    asked = absence.questions(
        [
            record("running"),
            record("unaccounted", job_id="", submission="s", submit_at=None, first_listed_at=after(-60)),
        ],
        [(submission("accepted", job_id="9"), 0), (submission("unclear", name="u", intended_at=after(-90)), 1)],
    )
    assert asked is not None
    assert (asked.job_ids, asked.names) == (("7", "9"), ("s", "u"))
    assert asked.since == after(-90) - timedelta(hours=1)
    many = absence.questions([record("running", job_id=f"{number}_0") for number in range(601)], [])
    assert many is not None and (many.job_ids, many.names) == ((), ())


def test_who_is_absent() -> None:
    """Active agents that no row showed; those that are over are not missed."""
    known = [record(state, agent=state) for state in ("queued", "running", "unaccounted", "ended", "forgotten")]
    assert [one.agent for one in absence.absent(known, {"running"})] == ["queued", "unaccounted"]


def test_who_is_unresolved() -> None:
    """Agents of open submissions without record and sighting, unless the intent is younger than the listing."""
    one = submission("unclear", agents=3)
    found = absence.unresolved([one], {f"{NAME}.0"}, {f"{NAME}.1"}, after(1))
    assert [(each.name, index) for each, index in found] == [(NAME, 2)]
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
    unresolved = [(taken, 0), (taken, 1), (doubtful, 0)]
    assert absence.overdue(unresolved, after(120), 120) == []
    assert absence.overdue(unresolved, after(121), 120) == [(taken, 0), (taken, 1)]


def test_in_doubt_beyond_void_after() -> None:
    """An unclear submission that could be given up on this listing, once per submission and by CE."""
    doubtful = submission("unclear")
    unresolved = [(doubtful, 0), (doubtful, 1), (submission("accepted"), 0), (submission("intended", name="i"), 0)]
    assert absence.undecidable(unresolved, after(720), 120) == {}
    assert absence.undecidable(unresolved, after(721), 120) == {"cpu": [NAME, "i"]}


def test_settled_after_the_settle_time() -> None:
    """Only an agent missing for longer than the settle time may be forgotten."""
    gone = record("unaccounted", missing_since=AT)
    assert absence.settled([gone, record("running")], after(600), 600) == []
    assert absence.settled([gone, record("unaccounted", missing_since=None)], after(601), 600) == [gone]


def test_old_records_leave() -> None:
    """Over for eight days, and the submission gone before: then the record may go."""
    known = {
        "live": record("running"),
        "old": record("ended", end_at=AT),
        "lost": record("forgotten", missing_since=AT),
        "bare": record("ended"),
        "held": record("ended", end_at=AT, submission="s"),
        "young": record("ended", end_at=after(86400)),
    }
    now = AT + timedelta(days=8, seconds=1)
    assert counting.outdated(known, {"s": submission()}, now) == ["old", "lost", "bare"]
