"""What `make crash` counts: each agent once, and only batch jobs that count."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.crash.verdict import Verdict, verdict

STRANGERS = {"vasp"}


def row(name: str = "nacre-x-1-a", index: int = 0, replaces: str = "-", **changes: Any) -> dict[str, Any]:
    """A running batch job of ours."""
    comment = f"nacre:name={name},replaces={replaces}"
    made = {"name": name, "index": index, "comment": comment, "state": "RUNNING", "started_at": 1.0, "void": False}
    return made | changes


def judged(rows: list[dict[str, Any]], intended: int) -> Verdict:
    return verdict(rows, STRANGERS, intended=intended, seed=7)


def test_one_each_is_good() -> None:
    """Live, queued and finished batch jobs count alike; void, forgotten and withdrawn ones do not."""
    rows = [
        row(),
        row(index=1, state="PENDING", started_at=None),
        row(index=2, state="COMPLETED"),
        row("nacre-x-2-b", void=True, state="FAILED"),
        row("nacre-x-3-c", state="FORGOTTEN"),
        row("nacre-x-4-d", state="CANCELLED", started_at=None),
    ]
    found = judged(rows, 3)
    assert found == Verdict(seed=7, intended=3, live_or_finished=3, doubled=0, lost=0, strangers_touched=0)
    assert found.good


def test_two_batch_jobs_with_one_name_are_doubled() -> None:
    """The same submission accepted twice: one agent of two is there twice, so another one is lost."""
    found = judged([row(), row()], 2)
    assert (found.live_or_finished, found.doubled, found.lost) == (2, 1, 1)
    assert not found.good


def test_a_replacement_beside_what_it_replaces_is_doubled() -> None:
    """Replaced and replacement are one agent; when the replaced one is forgotten, all is well."""
    later = row("nacre-x-2-b", replaces="nacre-x-1-a")
    assert judged([row(), later], 1).doubled == 1
    assert judged([row(state="FORGOTTEN"), later], 1).good


def test_more_than_asked_for_is_doubled() -> None:
    """An agent for which there is no grid job is one too many, under whatever name."""
    found = judged([row(), row("nacre-x-2-b")], 1)
    assert (found.doubled, found.lost) == (1, 0)


def test_a_cancelled_agent_that_had_started_counts() -> None:
    """A node was used for it."""
    assert judged([row(), row("nacre-x-2-b", state="CANCELLED")], 1).doubled == 1


def test_strangers_are_only_looked_at() -> None:
    """They count nowhere, and a cancelled one is a violation."""
    stranger = {"name": "vasp", "index": None, "comment": "", "state": "RUNNING", "started_at": 1.0, "void": False}
    assert judged([row(), stranger], 1).good
    assert judged([row(), stranger | {"state": "CANCELLED"}], 1).strangers_touched == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12), st.integers(0, 12))
def test_counts_add_up(agents: list[tuple[int, int]], intended: int) -> None:
    """Whatever the ledger says, intended - lost + doubled is what is there."""
    found = judged([row(f"nacre-x-{name}-a", index) for name, index in agents], intended)
    assert found.intended - found.lost + found.doubled == found.live_or_finished == len(agents)
    assert found.good == (found.lost == found.doubled == 0)
