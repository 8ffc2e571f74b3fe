"""The plan of a crash run: the seed decides everything, and every kind of fault is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.crash.pace import Pace
from tests.e2e.crash.plan import LOSE_STORE, TABLE, draw, longest_delay_s
from tests.e2e.crash.stage import Stage
from tests.world.superfacility.faults import FIELDS, KINDS


@given(st.integers(0, 10_000), st.sampled_from([1, 7, 100, 500, 10_000]))
def test_a_seed_is_a_plan(seed: int, agents: int) -> None:
    """The same seed gives the same plan, all kinds in it, in order and in time; the grid jobs are as many as asked."""
    pace = Pace(agents)
    plan = draw(seed, pace)
    assert plan == draw(seed, pace)
    assert len(plan.faults) == len(TABLE)
    instants = [fault.at_s for fault in plan.faults]
    assert instants == sorted(instants) and instants[0] >= 0 and instants[-1] <= pace.faults_s
    assert sum(count for _, count in plan.waves) == agents


def test_another_seed_is_another_plan() -> None:
    """Order, instants and amounts differ."""
    assert draw(1, Pace(100)).faults != draw(2, Pace(100)).faults


def test_a_kind_can_be_left_out_without_changing_the_rest() -> None:
    """What is left happens as it would have."""
    whole, rest = draw(3, Pace(100)), draw(3, Pace(100), without=frozenset({LOSE_STORE}))
    assert [fault for fault in whole.faults if fault.kind != LOSE_STORE] == rest.faults != whole.faults


@pytest.mark.parametrize("fault", draw(4, Pace(100)).faults, ids=lambda fault: fault.words)
def test_every_fault_can_be_done(fault: object) -> None:
    """The stage has a method for each kind, and the API knows those that are its own."""
    kind, options = fault.kind, fault.options  # type: ignore[attr-defined]
    assert callable(getattr(Stage, f"_{kind}"))
    if kind == "api":
        assert options["kind"] in KINDS and set(options) <= FIELDS


def test_late_executions_are_within_and_beyond_the_settle_time() -> None:
    """One late POST must be adopted and another one void, at every pace."""
    for agents in (100, 10_000):
        pace = Pace(agents)
        for seed in range(20):
            late = [f.options["delay_s"] for f in draw(seed, pace).faults if f.options.get("kind") == "late_execution"]
            assert min(late) < pace.settle_time_s - 1 < pace.settle_time_s < max(late)
            assert longest_delay_s(draw(seed, pace)) == max(late)
