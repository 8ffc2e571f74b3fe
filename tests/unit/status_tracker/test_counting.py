from datetime import UTC, datetime

import pytest

from services.status_tracker.rules import counting
from tests.unit.status_tracker.made import CES, NAME, after, job, record, submission


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


def test_activities_count_among_the_running() -> None:
    """What a missing or ended agent last did counts nowhere."""
    words = ["silent", "idle", "idle", "working", "unknown"]
    records = [record("running", activity=word) for word in words]
    records += [record("unaccounted", activity="working"), record("ended", activity="silent")]
    counts = counting.count(records, "cpu")
    assert (counts.running, counts.silent, counts.idle, counts.working) == (5, 1, 2, 1)


@pytest.mark.parametrize(
    ("comment", "per_job"),
    [
        ("nacre:name=x,replaces=-,agents=8,per_job=4", 4),
        ("nacre:per_job=12", 12),
        ("nacre:name=x,replaces=-", 1),
        ("nacre:name=x,per_job=0", 1),
        ("nacre:name=x,per_job=9999", counting.AGENTS_PER_JOB_AT_MOST),
        ("nacre:name=x,per_job=4x", 1),
        ("per_job=4", 1),
        ("", 1),
    ],
)
def test_how_many_agents_a_comment_says(comment: str, per_job: int) -> None:
    """Only our own comment is read, and it cannot make up any number."""
    assert counting.per_job_of(comment) == per_job


def test_a_batch_job_of_several_agents() -> None:
    """Each task holds one per node, by the record or the comment; batch jobs are still counted as batch jobs."""
    row = job("RUNNING", indices=(0, 1), node_list="nid[007-008]", nodes=2)
    by_record = counting.view([row], CES, {NAME: submission(agents=4, agents_per_job=2)})
    by_comment = counting.view(
        [job("RUNNING", indices=(0, 1), node_list="nid[007-008]", comment="nacre:per_job=2")], CES
    )
    for view in (by_record, by_comment):
        assert list(view.ours) == [f"{NAME}.{index}.{rank}" for index in (0, 1) for rank in (0, 1)]
        assert [one.node for one in view.ours.values()] == ["nid007", "nid008", "nid007", "nid008"]
        assert view.by_qos == {"regular": 2}
    odd = counting.sightings(job("RUNNING", node_list="nid[7", comment="nacre:per_job=2"), CES)
    assert [one.node for one in odd] == ["", ""]


def test_an_arrays_bare_id_is_no_agent() -> None:
    """sacct may name an array whose list would be too long by its id alone: that is not its task 0."""
    assert counting.sightings(job("CANCELLED", indices=()), CES, {NAME: submission(agents=2)}) == []
    assert len(counting.sightings(job("CANCELLED", indices=()), CES, {NAME: submission(agents=1)})) == 1


def test_void_after_of_a_submission() -> None:
    """From its record, else from the instant in its name, else unknown."""
    one = submission()
    assert counting.void_after_of(NAME, one, 60) == one.void_after
    assert counting.void_after_of(NAME, None, 60) == datetime(2026, 11, 23, 3, 1, tzinfo=UTC)
    assert counting.void_after_of("nacre-cpu-20269923t030000-a1b2c3", None, 60) is None
    assert counting.void_after_of("nacre-cpu", None, 60) is None
