"""What the tracker makes of each state that a real Slurm was made to show (tests/world/slurm/record.py)."""

import random
from zoneinfo import ZoneInfo

import pytest

from libs.events.messages import JobAgent
from libs.slurm import cut_lists
from libs.slurm.rows import BatchJob, parse_sacct, parse_squeue
from services.status_tracker.rules import counting, lifecycle
from tests.unit.slurm import golden
from tests.unit.status_tracker.made import AT

UTC = ZoneInfo("UTC")
CES = {"cpu"}
# What was done to a batch job -> the state of its agent and how it ended, by squeue and by sacct.
TRUTH = {
    "completed": ("ended", "completed"),
    "failed": ("ended", "failed"),
    "exit213": ("ended", "failed"),
    "killed": ("ended", "killed"),
    "outofmemory": ("ended", "killed"),
    "timelimit": ("ended", "time_limit"),
    "deadline": ("ended", "time_limit"),
    "nodefailed": ("ended", "node_failed"),
    "preempted": ("ended", "preempted"),
    "cancelled": ("ended", "cancelled"),
    "requeued": ("queued", ""),
    "requeueheld": ("queued", ""),
    "specialexit": ("queued", ""),
    "suspended": ("running", ""),
}
# squeue tells no signal.
BY_SQUEUE = {"killed": "failed", "outofmemory": "failed"}
ONLY_SQUEUE = {"cancelledwaiting": ("ended", "cancelled"), "throttle": ("queued", ""), "step": ("queued", "")}


def by_what(jobs: tuple[BatchJob, ...]) -> dict[str, list[BatchJob]]:
    found: dict[str, list[BatchJob]] = {}
    for job in jobs:
        found.setdefault(job.name.rpartition("-")[2], []).append(job)
    return found


def seen(job: BatchJob, record: JobAgent | None = None) -> JobAgent:
    one = counting.sightings(job, CES)[0]
    return lifecycle.seen(record, one, machine="perlmutter", listed_at=AT)


def test_squeue_shows_each_state_as_it_is() -> None:
    """Every recorded row is read, and its agent is where it was brought."""
    parsed = parse_squeue(golden.rows("squeue-states.txt"), UTC)
    assert parsed.faults == ()
    found = {what: (one.state, one.ending) for what, jobs in by_what(parsed.jobs).items() for one in [seen(jobs[0])]}
    expected = TRUTH | ONLY_SQUEUE | {what: ("ended", ending) for what, ending in BY_SQUEUE.items()}
    assert found == expected


def test_sacct_shows_each_state_as_it_is() -> None:
    """With exit code and signal; what never was eligible it does not know."""
    parsed = parse_sacct(golden.rows("sacct-states.txt"), UTC)
    assert parsed.faults == ()
    found = {what: (one.state, one.ending) for what, jobs in by_what(parsed.jobs).items() for one in [seen(jobs[-1])]}
    assert found == TRUTH


def test_a_requeued_agent_lives_again_whatever_sacct_says() -> None:
    """squeue shows it wait since later than sacct's last record of it, which is an earlier run."""
    live = by_what(parse_squeue(golden.rows("squeue-states-live.txt"), UTC).jobs)
    accounted = by_what(parse_sacct(golden.rows("sacct-states.txt"), UTC).jobs)
    for what in ("requeued", "requeueheld", "specialexit"):
        earlier, now = accounted[what][0], live[what][0]
        assert earlier.submitted_at is not None and now.submitted_at is not None
        assert now.submitted_at > earlier.submitted_at
        waits = seen(now, seen(earlier))
        assert (waits.state, waits.run) == ("queued", 1)
        assert seen(earlier, waits) == waits


@pytest.mark.parametrize(("what", "indices"), [("throttle", range(10)), ("step", range(1, 200, 2))])
def test_arrays_with_throttle_and_step(what: str, indices: range) -> None:
    """They are counted by their tasks."""
    jobs = by_what(parse_squeue(golden.rows("squeue-states-live.txt"), UTC).jobs)[what]
    assert [job.indices for job in jobs] == [tuple(indices)]
    assert len(counting.view(jobs, CES).ours) == len(indices)


def test_a_fragmented_array_of_500() -> None:
    """Its cut list is not counted, but what it names is right; asked for, 150 tasks are told exactly."""
    gone = set(random.Random(6).sample(range(500), 60))
    cut = parse_squeue(golden.rows("squeue-fragmented.txt"), UTC)
    assert len(cut.faults) == 1 and cut.jobs[0].indices is None
    assert set(cut.jobs[0].named) == set(range(max(cut.jobs[0].named) + 1)) - gone
    assert counting.view(cut.jobs, CES).ours == {}
    answer = parse_squeue(golden.rows("squeue-fragmented-asked.txt"), UTC)
    search = cut_lists.continued(cut_lists.begun(cut.jobs[0], cut.jobs), range(110, 260), answer.jobs)
    assert {index for index in search.found if index >= 110} == set(range(110, 260)) - gone
