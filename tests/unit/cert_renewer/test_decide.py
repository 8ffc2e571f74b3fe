from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.cert_renewer import decide
from services.cert_renewer.decide import Action, Seen

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SPANS = st.timedeltas(timedelta(seconds=1), 400 * DAY)


def seen(
    days_old: float, days_left: float, *, problem: str = "", is_new: bool = False, due_at: datetime | None = None
) -> Seen:
    return Seen(problem, NOW - days_old * DAY, NOW + days_left * DAY, is_new=is_new, due_at=due_at)


def test_a_good_new_one_is_taken_and_a_bad_one_is_not() -> None:
    """What has a problem never replaces what is in effect."""
    assert decide.decide(seen(1, 90, is_new=True), NOW) is Action.RELOAD
    assert decide.decide(seen(1, 90, is_new=True, problem="no key"), NOW) is Action.ALARM


def test_what_is_due_is_renewed_even_with_a_problem() -> None:
    """An expired token is no reason not to ask for the next one."""
    assert decide.decide(seen(3, -1, problem="expired", due_at=NOW), NOW) is Action.RENEW
    assert decide.decide(seen(1, 1, due_at=NOW + DAY), NOW) is Action.KEEP


def test_the_end_raises_an_alarm_in_time() -> None:
    """Two days before the end, for short-lived ones in the last quarter."""
    assert decide.decide(seen(100, 2.1), NOW) is Action.KEEP
    assert decide.decide(seen(100, 1.9), NOW) is Action.ALARM
    assert decide.decide(seen(1, 1), NOW) is Action.KEEP
    assert decide.decide(seen(1.6, 0.4), NOW) is Action.ALARM
    assert decide.decide(Seen(), NOW) is Action.KEEP
    assert decide.decide(Seen(problem="missing"), NOW) is Action.ALARM


def test_validity_says_when() -> None:
    """Before, within and after; days left become negative."""
    assert decide.validity(NOW - DAY, NOW + DAY, NOW) == ""
    assert decide.validity(NOW - DAY, NOW, NOW) == "expired at 2026-11-23 12:00 UTC"
    assert "not valid before 2026-11-24 12:00" in decide.validity(NOW + DAY, NOW + 2 * DAY, NOW)
    assert decide.days_left(NOW + DAY / 2, NOW) == 0.5
    assert decide.days_left(NOW - DAY, NOW) == -1


def test_the_first_token_is_due_at_once() -> None:
    """Nothing was tried yet."""
    assert decide.due_at(None, 0, 300, not_before=None, not_after=None) is None


@given(SPANS, SPANS, st.floats(1, 86400), st.integers(0, 1000))
def test_the_next_token_is_due_in_time(old: timedelta, left: timedelta, refresh_s: float, failures: int) -> None:
    """After a success within the refresh interval; after failures within a minute; never at once again."""
    due = decide.due_at(NOW, failures, refresh_s, not_before=NOW - old, not_after=NOW + left)
    assert due is not None
    assert NOW < due <= NOW + max(timedelta(seconds=refresh_s), timedelta(seconds=decide.FIRST_RETRY_S))
    if failures:
        assert due <= NOW + timedelta(seconds=decide.MOST_RETRY_S)
    elif due > NOW + timedelta(seconds=decide.FIRST_RETRY_S):
        assert due <= NOW + left - (old + left) / 4
    assert decide.due_at(NOW, 0, refresh_s, not_before=None, not_after=None) == NOW + max(
        timedelta(seconds=refresh_s), timedelta(seconds=decide.FIRST_RETRY_S)
    )


@given(st.integers(1, 1000), st.floats(1, 86400))
def test_retries_slow_down_and_are_bounded(failures: int, refresh_s: float) -> None:
    """Pauses grow, up to a minute or the refresh interval."""
    found = decide.retry_s(failures, refresh_s)
    assert 0 < found <= min(decide.MOST_RETRY_S, refresh_s)
    assert found <= decide.retry_s(failures + 1, refresh_s)
