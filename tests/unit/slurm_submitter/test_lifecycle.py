"""The life of a submission."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import Submission
from services.slurm_submitter.lifecycle import TRANSITIONS, moved, outdated, settled, to_replace
from tests.unit.slurm_submitter.sites import NOW, SECOND, agent, listing, submission

UNCLEAR = submission(state="unclear", void_after=NOW)


def after(seconds: float, one: Submission = UNCLEAR, agents: Any = (), **changes: Any) -> Submission | None:
    observed = listing(listed_at=NOW + seconds * SECOND, **changes)
    return settled(one, agents, observed, listing_lag_s=120.0, now=NOW + seconds * SECOND)


def test_unclear_is_adopted_when_listed() -> None:
    """An agent of its name in the tracker's records adopts it, with Slurm's id without the index."""
    changed = after(1, agents=[agent()])
    assert changed is not None
    assert (changed.state, changed.job_id) == ("adopted", "16")


def test_unclear_is_abandoned_only_after_void_after_and_the_lag() -> None:
    """Not before, not on a listing from before, not on unknown, not without a listing."""
    assert after(120) is None
    assert after(200, unknown_because="HTTP 503") is None
    assert settled(UNCLEAR, [], None, listing_lag_s=0.0, now=NOW + 999 * SECOND) is None
    changed = after(121)
    assert changed is not None
    assert changed.state == "abandoned"


def test_forgotten_only_when_every_agent_is() -> None:
    """One agent that Slurm still knows keeps the submission."""
    lost = [agent(index=index, state="forgotten") for index in range(2)]
    accepted = submission()
    assert after(1, accepted, [lost[0]]) is None
    assert after(1, accepted, [lost[0], agent(index=1)]) is None
    changed = after(1, accepted, lost)
    assert changed is not None
    assert changed.state == "forgotten"


@given(st.data())
def test_dead_stays_dead(data: st.DataObject) -> None:
    """No observation brings a refused, abandoned or forgotten submission back, and nothing else is ever un-accepted."""
    state = data.draw(st.sampled_from(sorted(TRANSITIONS)))
    agents = data.draw(
        st.lists(st.sampled_from(["queued", "running", "ended", "forgotten", "unaccounted"]), max_size=2)
    )
    changed = after(
        data.draw(st.floats(-1e6, 1e6)),
        submission(state=state, void_after=NOW),
        [agent(index=index, state=one) for index, one in enumerate(agents)],
    )
    if state in {"refused", "abandoned", "forgotten", "intended"}:
        assert changed is None
    elif changed is not None:
        assert changed.state in TRANSITIONS[state]


def test_moves_outside_the_table_are_bugs() -> None:
    """Every pair of states is either in the table or a ValueError."""
    for before, to in itertools.product(TRANSITIONS, TRANSITIONS):
        if to in TRANSITIONS[before]:
            assert moved(submission(state=before), to, NOW, why="x").why == "x"
        else:
            with pytest.raises(ValueError, match="cannot become"):
                moved(submission(state=before), to, NOW)


def test_the_oldest_dead_one_is_replaced_once() -> None:
    """Only abandoned and forgotten ones of the same CE, each by one submission."""
    old = submission("a", state="abandoned", intended_at=NOW - 9 * SECOND)
    new = submission("b", state="forgotten", intended_at=NOW - 5 * SECOND)
    others = [submission("c", state="refused"), submission("d", ce="gpu", state="forgotten"), submission("e")]
    assert to_replace([*others, new, old], "cpu") == old
    assert to_replace([*others, new, old, submission("f", replaces="a")], "cpu") == new
    assert to_replace(others, "cpu") is None


def test_records_leave_after_seven_days() -> None:
    """Dead ones, and those whose agents all ended, seven days later; never one that may still have a batch job."""
    later = NOW + 8 * 86400 * SECOND
    ended = [agent(index=index, state="ended", end_at=NOW) for index in range(2)]
    assert outdated(submission(state="refused"), [], later)
    assert not outdated(submission(state="refused"), [], NOW)
    assert not outdated(submission(state="unclear"), [], later)
    assert outdated(submission(), ended, later)
    assert not outdated(submission(), ended[:1], later)
    assert not outdated(submission(), [ended[0], agent(index=1, state="ended", end_at=later)], later)
