from typing import Any

import pytest

from services.status_tracker.rules import cadence
from services.status_tracker.rules.cadence import Pace
from services.status_tracker.rules.counting import Sighting
from services.status_tracker.settings import pace
from tests.unit.status_tracker.made import AT, NAME, after, job, sighting, submission

PACE = Pace(quick_s=15, usual_s=60, slow_s=150)


def pause_s(seen: list[Sighting], *submissions: Any, at_s: float = 60) -> float:
    return cadence.pause_s(PACE, seen, submissions, listed_at=after(at_s), lag_s=120)


def running(number: int = 0, **changes: Any) -> Sighting:
    return sighting("RUNNING", indices=(number,), **changes)


def test_quick_after_a_submission() -> None:
    """Until its agents are listed, or the lag is over, or it can have none."""
    assert pause_s([], submission("accepted")) == 15
    assert pause_s([running()], submission("accepted")) == 60
    assert pause_s([], submission("accepted"), at_s=121) == 150
    assert pause_s([], submission("refused")) == 150


def test_slow_when_there_is_nothing() -> None:
    """Ended rows that squeue still shows are nothing."""
    assert pause_s([sighting("COMPLETED")]) == 150


def test_just_after_an_expected_end() -> None:
    """While few are active; not sooner than quick, not later than usual, and an end that is over says nothing."""
    assert pause_s([running(ends_by=after(90))]) == 32
    assert pause_s([running(ends_by=after(61))]) == 15
    assert pause_s([running(ends_by=after(600))]) == 60
    assert pause_s([running(ends_by=AT)]) == 60
    assert pause_s([running(0, ends_by=after(95)), running(1)]) == 37


@pytest.mark.parametrize("state", cadence.PASSING)
def test_quick_while_something_passes(state: str) -> None:
    """A node boots or clears up: soon it is otherwise."""
    assert pause_s([sighting(state)]) == 15


def test_usual_in_a_crowd() -> None:
    """Where somebody ends in every cycle, single ends do not matter."""
    crowd = [running(number, ends_by=after(61)) for number in range(cadence.FEW + 1)]
    assert pause_s(crowd) == 60


def test_pending_ones_are_listed_as_usual() -> None:
    """Nobody knows when they start."""
    assert pause_s([Sighting(agent="a", submission=NAME, index=0, ce="cpu", job=job("PENDING"))]) == 60


def test_the_pace_of_a_site() -> None:
    """Never quicker than the floor, never so slow that the submitter would find the listing too old."""
    assert pace(60, 5, 300) == Pace(quick_s=15, usual_s=60, slow_s=150)
    assert pace(60, 30, 3600) == Pace(quick_s=30, usual_s=60, slow_s=180)
    assert pace(60, 5, 60) == Pace(quick_s=15, usual_s=60, slow_s=60)
