import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.slurm import breaker
from libs.slurm.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S, RARE_S, UNAVAILABLE, Breaker


def after(failures: int, now_s: float = 100.0) -> Breaker:
    """A breaker after so many failures in a row at one instant."""
    state = Breaker()
    for _ in range(failures):
        state = breaker.failed(state, now_s)
    return state


def test_closed_lets_everything_leave() -> None:
    """A new breaker, one after few failures, and one after anything that worked."""
    for state in (Breaker(), after(FAILURES_TO_OPEN - 1), breaker.worked(after(20))):
        assert not state.is_open
        assert breaker.read_wait_s(state, 100.0) == 0.0
        assert breaker.effect_refused(state) == ""


def test_failures_in_a_row_open_it() -> None:
    """Open: no effect leaves, and a read waits out the pause; then just one read may, and the next one waits again."""
    state = after(FAILURES_TO_OPEN)
    assert "3 failures" in breaker.effect_refused(state)
    assert breaker.read_wait_s(state, 100.0) == 1.0
    assert breaker.read_wait_s(state, 100.5) == 0.5
    assert breaker.read_wait_s(state, 101.0) == 0.0
    tried = breaker.read_left(state, 101.0)
    assert breaker.read_wait_s(tried, 101.0) == 1.0
    assert breaker.effect_refused(tried)
    assert breaker.read_wait_s(breaker.worked(tried), 101.0) == 0.0


@pytest.mark.parametrize(("failures", "pause_s"), [(3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 15.0), (1000, 15.0)])
def test_the_pause_doubles_to_its_bound(failures: int, pause_s: float) -> None:
    """Each further failure doubles the pause, up to the longest."""
    assert breaker.read_wait_s(after(failures), 100.0) == pause_s


def test_while_the_facility_is_away_effects_wait_and_reads_are_rare() -> None:
    """Its word keeps every effect; one read may leave, the next only much later; another word ends it at once."""
    away = breaker.told(Breaker(), UNAVAILABLE)
    assert "facility says" in breaker.effect_refused(away)
    assert breaker.read_wait_s(away, 5.0) == 0.0
    asked = breaker.read_left(away, 5.0)
    assert breaker.read_wait_s(asked, 6.0) == RARE_S - 1.0
    assert breaker.read_wait_s(breaker.worked(asked), 6.0) == RARE_S - 1.0
    assert breaker.read_wait_s(asked, 5.0 + RARE_S) == 0.0
    for word in ("active", "degraded", "unknown"):
        assert breaker.read_wait_s(breaker.told(asked, word), 6.0) == 0.0
        assert breaker.effect_refused(breaker.told(asked, word)) == ""


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["failed", "worked", "read", "active", UNAVAILABLE]),
        st.floats(min_value=0, max_value=100, allow_nan=False),
    ),
    max_size=60,
)


@given(EVENTS)
def test_it_always_opens_again(events: list[tuple[str, float]]) -> None:
    """Whatever happened, a read may leave within a bound, and an effect after it worked and the facility is back."""
    state, now_s = Breaker(), 0.0
    for event, pause_s in events:
        now_s += pause_s
        if event == "failed":
            state = breaker.failed(state, now_s)
        elif event == "worked":
            state = breaker.worked(state)
        elif event == "read":
            state = breaker.read_left(state, now_s)
        else:
            state = breaker.told(state, event)
        wait_s = breaker.read_wait_s(state, now_s)
        assert 0.0 <= wait_s <= max(LONGEST_PAUSE_S, RARE_S) + 0.001
        assert breaker.read_wait_s(state, now_s + wait_s + 0.001) == 0.0
        assert bool(breaker.effect_refused(state)) == (state.is_open or state.facility == UNAVAILABLE)
    assert breaker.effect_refused(breaker.told(breaker.worked(state), "active")) == ""
