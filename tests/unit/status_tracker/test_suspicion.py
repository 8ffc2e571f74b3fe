from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import JobAgent
from services.status_tracker.rules import suspicion
from services.status_tracker.rules.suspicion import Nodes, Suspect
from services.status_tracker.rules.verdict import judged
from tests.unit.status_tracker.made import AT, after, record

NOW = after(3600)


def ended(at_s: float, state: str = "FAILED", nodes: str = "nid001", took_s: float = 20, **changes: Any) -> JobAgent:
    about: dict[str, Any] = {
        "agent": f"{state}@{at_s:g}",
        "slurm_state": state,
        "nodes": nodes,
        "start_at": after(at_s - took_s),
        "end_at": after(at_s),
        "exit_code": 1,
        "signal": 0,
    }
    return judged(record("ended", **about | changes), None)


def suspects(*records: JobAgent) -> dict[str, Suspect]:
    return suspicion.judged(records, NOW).suspects


def test_two_early_failures_make_a_suspect() -> None:
    """One may be chance; two in a row on one node are not, and it is said which and why."""
    assert suspects(ended(100)) == {}
    found = suspects(ended(200), ended(100))["nid001"]
    assert (found.agents, found.until) == (("FAILED@100", "FAILED@200"), after(200) + suspicion.SUSPECTED_FOR)
    assert found.why == "failed with exit code 1 on nid001 after a short time, and 1 more before"


@pytest.mark.parametrize(
    "one",
    [
        ended(100, "NODE_FAIL", took_s=5000),
        ended(100, exit_code=86),
        record("running", agent="s", nodes="nid001", start_at=AT, activity="silent"),
    ],
)
def test_some_need_no_second(one: JobAgent) -> None:
    """A node that failed, or has no CVMFS, or whose agent is silent, is suspected at once."""
    found = suspects(one)["nid001"]
    assert found.why == (one.verdict or "an agent runs and is silent")


@pytest.mark.parametrize(
    "good",
    [
        ended(300, "COMPLETED", took_s=5000),
        ended(300, "TIMEOUT", grid_jobs_total=1),
        record("running", agent="w", nodes="nid001", start_at=AT, activity="working"),
    ],
)
def test_a_good_agent_after_them_clears_a_node(good: JobAgent) -> None:
    """What was bad before an agent that did well counts no more."""
    found = suspicion.judged([ended(100), ended(200), good], NOW)
    assert found.suspects == {} and found.good == {"nid001": good.agent}
    again = suspicion.judged([ended(100), good, ended(400), ended(500)], NOW)
    assert ("nid001" in again.suspects) == (good.state == "ended")


@pytest.mark.parametrize(
    "neither",
    [
        ended(100, took_s=4000),
        ended(100, "CANCELLED"),
        ended(100, "COMPLETED"),
        ended(100, exit_code=87),
        ended(100, start_at=None),
        ended(100, end_at=None),
        ended(100, nodes="nid[1"),
        ended(-6 * 3600 * 2),
        record("running", nodes="nid001", activity="idle"),
        record("queued", nodes="nid001"),
    ],
)
def test_what_says_nothing_of_a_node(neither: JobAgent) -> None:
    """A late failure, a cancellation, a missing token, an old end, an agent that idles."""
    assert suspicion.judged([neither, neither], NOW) == Nodes(suspects={}, good={}, too_many=False)


def test_when_everything_fails_it_is_not_the_nodes() -> None:
    """A broken command fails everywhere: nobody new is suspected, and those that are stay."""
    few = [ended(100 + k, nodes=f"nid{n}") for n in range(3) for k in (0, 1)]
    assert not suspicion.judged(few, NOW).too_many
    many = [ended(100 + k, nodes=f"nid{n}") for n in range(4) for k in (0, 1)]
    found = suspicion.judged(many, NOW)
    assert found.too_many
    before = {"nid0": Suspect(node="nid0", until=after(4000), why="w", agents=())}
    assert suspicion.changed(before, found, NOW) == ([], [], before)
    crowd = [ended(100, "COMPLETED", nodes=f"x{n}", took_s=999) for n in range(40)]
    assert not suspicion.judged([*many, *crowd], NOW).too_many


def test_what_is_announced() -> None:
    """New suspects once, again when they last much longer; those that do well are cleared, old ones expire."""
    found = suspicion.judged([ended(100), ended(200)], NOW)
    new, cleared, standing = suspicion.changed({}, found, NOW)
    assert ([one.node for one in new], cleared) == (["nid001"], [])
    assert suspicion.changed(standing, found, NOW) == ([], [], standing)
    a_little = suspicion.judged([ended(100), ended(200), ended(900)], NOW)
    assert suspicion.changed(standing, a_little, NOW)[0] == []
    much = suspicion.judged([ended(100), ended(200), ended(3900)], after(3900))
    assert [one.until for one in suspicion.changed(standing, much, after(3900))[0]] == [after(3900 + 4 * 3600)]
    well = suspicion.judged([ended(100), ended(200), ended(300, "COMPLETED", took_s=999)], NOW)
    assert suspicion.changed(standing, well, NOW) == ([], [("nid001", "COMPLETED@300 does well there")], {})
    assert suspicion.changed(standing, Nodes(suspects={}, good={}, too_many=False), after(200 + 4 * 3600)) == (
        [],
        [],
        {},
    )
    assert suspicion.changed({}, found, after(200 + 4 * 3600)) == ([], [], {})


@given(st.permutations([ended(100), ended(200), ended(250, "COMPLETED", took_s=999), ended(300), ended(400)]))
def test_the_order_of_records_does_not_matter(records: list[JobAgent]) -> None:
    """Their instants do."""
    assert suspects(*records)["nid001"].agents == ("FAILED@300", "FAILED@400")
