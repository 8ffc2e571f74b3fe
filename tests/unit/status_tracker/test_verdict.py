from datetime import datetime
from typing import Any

import pytest

from libs.slurm.states import TABLE, Phase
from services.status_tracker.rules.verdict import judged
from tests.unit.status_tracker.made import AT, after, record


def ended(state: str, **changes: Any) -> Any:
    about = {"slurm_state": state, "start_at": AT, "end_at": after(60), "nodes": "nid001"}
    return record("ended", **about | changes)


def words(state: str, void_after: datetime | None = None, **changes: Any) -> tuple[str, str]:
    found = judged(ended(state, **changes), void_after)
    return found.ending, found.verdict


@pytest.mark.parametrize(
    ("state", "changes", "ending", "verdict"),
    [
        ("COMPLETED", {}, "completed", "completed"),
        ("COMPLETED", {"monitored_at": AT}, "completed", "completed without a grid job"),
        ("COMPLETED", {"monitored_at": AT, "grid_jobs_total": 1}, "completed", "completed after 1 grid job"),
        (
            "COMPLETED",
            {"monitored_at": AT, "fruitless": 2},
            "no_grid_jobs",
            "no matching grid jobs: exited after 2 tries",
        ),
        ("COMPLETED", {"fruitless": 1}, "no_grid_jobs", "no matching grid jobs: exited after 1 try"),
        (
            "TIMEOUT",
            {"monitored_at": AT, "grid_jobs_total": 2},
            "time_limit",
            "ended by its time limit after 2 grid jobs",
        ),
        ("DEADLINE", {}, "time_limit", "ended by its time limit"),
        ("NODE_FAIL", {}, "node_failed", "node failed on nid001"),
        ("FAILED", {"exit_code": 3}, "failed", "failed with exit code 3 on nid001"),
        ("FAILED", {"nodes": ""}, "failed", "failed"),
        ("FAILED", {"exit_code": 0, "signal": 11}, "killed", "killed by signal 11 on nid001"),
        ("FAILED", {"exit_code": 86}, "no_cvmfs", "no CVMFS on nid001"),
        ("FAILED", {"exit_code": 87}, "no_token", "no readable job-agent token on nid001"),
        ("FAILED", {"exit_code": 88}, "no_java", "no JDK or jar for its architecture on nid001"),
        ("FAILED", {"exit_code": 89}, "no_directory", "no work directory on nid001"),
        ("CANCELLED by 1001", {}, "cancelled", "cancelled by user id 1001"),
        ("CANCELLED", {"start_at": None}, "cancelled", "cancelled before it started"),
        ("OUT_OF_MEMORY", {}, "out_of_memory", "out of memory on nid001"),
        ("PREEMPTED", {"monitored_at": AT}, "preempted", "preempted without a grid job"),
        ("REVOKED", {}, "revoked", "revoked: a sibling in another cluster ran"),
        ("RUNNING", {}, "", ""),
    ],
)
def test_endings_in_plain_words(state: str, changes: dict[str, Any], ending: str, verdict: str) -> None:
    """A word to count by and a sentence for people, out of Slurm's state, exit code and what the agent did."""
    assert words(state, **changes) == (ending, verdict)


def test_void_needs_both_code_and_lateness() -> None:
    """sacct shows 213 as 85: only a submit time beyond void_after, in whole seconds, makes it void."""
    late = {"exit_code": 85, "submit_at": after(601)}
    assert words("FAILED", after(600.9), **late) == ("void", "void: executed after void_after on nid001")
    assert judged(ended("FAILED", **late), after(600)).void
    assert judged(judged(ended("FAILED", **late), after(600)), None).void
    in_time = judged(ended("FAILED", exit_code=85, submit_at=after(600.7)), after(600))
    assert (in_time.ending, in_time.void) == ("failed", False)
    assert in_time.verdict == "failed with exit code 85 (or 213) on nid001"
    assert words("FAILED", None, **late)[0] == "failed"
    assert words("FAILED", after(600), exit_code=85, submit_at=None)[0] == "failed"


def test_checks_fail_early_or_not_at_all() -> None:
    """The same code after hours is the agent's own, or 128 more."""
    assert words("FAILED", exit_code=86, end_at=after(3600))[1] == "failed with exit code 86 (or 214) on nid001"
    assert words("FAILED", exit_code=86, end_at=None)[0] == "failed"
    assert words("FAILED", exit_code=86, start_at=None)[0] == "failed"


def test_every_ending_of_slurm_has_words_and_the_living_have_none() -> None:
    """Each state of the table that ends a job gets both; a record that lives, or came back, has neither."""
    for name, _, phase, _ in TABLE:
        ending, verdict = words(name, exit_code=1)
        assert bool(ending) == bool(verdict) == (phase is Phase.ENDED)
    assert judged(record("running", ending="failed", verdict="x", void=True), None) == record("running")


def test_forgotten() -> None:
    """What is given up says so, whatever its last state was."""
    lost = judged(record("forgotten"), None)
    assert lost.ending == "forgotten" and "knows nothing of it" in lost.verdict
