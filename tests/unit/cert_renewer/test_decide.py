from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.cert_renewer import decide
from services.cert_renewer.decide import Action, Alarm, Seen

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
    assert decide.decide(seen(0.5, 1, due_at=NOW + DAY), NOW) is Action.KEEP


def test_the_end_raises_an_alarm_in_time() -> None:
    """Long-lived ones 14 days before, short-lived ones at half of their life; what has no known end never."""
    assert decide.decide(seen(100, 14.1), NOW) is Action.KEEP
    assert decide.decide(seen(100, 14), NOW) is Action.ALARM
    assert decide.decide(seen(0.9, 1.1), NOW) is Action.KEEP
    assert decide.decide(seen(1, 1), NOW) is Action.ALARM
    assert decide.decide(Seen(), NOW) is Action.KEEP
    assert decide.decide(Seen(problem="missing"), NOW) is Action.ALARM


def test_alarms_grow_with_the_end() -> None:
    """14, 7 and 2 days; a half, a quarter, an eighth of a short life; the end itself is critical."""
    long = [decide.alarm(NOW - 40 * DAY, NOW + left * DAY, NOW) for left in (15, 14, 8, 7, 3, 2, 0, -1)]
    assert long == [0, 1, 1, 2, 2, 3, 3, 3]
    begin = NOW - DAY
    short = [
        decide.alarm(begin, begin + 2 * DAY, begin + 2 * DAY * share / 16) for share in (7, 8, 11, 12, 13, 14, 16, 20)
    ]
    assert short == [0, 1, 1, 2, 2, 3, 3, 3]
    assert decide.alarm(None, NOW + 10 * DAY, NOW) is Alarm.NOTICE
    assert decide.alarm(None, None, NOW) is Alarm.NONE
    assert [alarm.word for alarm in Alarm] == ["", "notice", "warning", "critical"]


@given(SPANS, SPANS, SPANS)
def test_alarms_never_go_back_while_time_goes_on(old: timedelta, left: timedelta, later: timedelta) -> None:
    """The same credential, seen later, is never nearer to good; once it is over it stays critical."""
    before, end = NOW - old, NOW + left
    assert decide.alarm(before, end, NOW) <= decide.alarm(before, end, NOW + later)
    assert decide.alarm(before, end, end + later) is Alarm.CRITICAL


def test_a_47_day_certificate_is_renewed_in_its_last_third_and_before_its_first_alarm() -> None:
    """Ten days before the end for short ones, a third for long ones; never in the first half."""
    assert decide.renew_at(NOW, NOW + 47 * DAY) == NOW + 47 * DAY - 47 * DAY / 3
    assert decide.renew_at(NOW, NOW + 21 * DAY) == NOW + 11 * DAY
    assert decide.renew_at(NOW, NOW + 6 * DAY) == NOW + 3 * DAY
    assert decide.alarm(NOW, NOW + 47 * DAY, decide.renew_at(NOW, NOW + 47 * DAY)) is Alarm.NONE


@given(SPANS)
def test_renewal_lies_in_the_second_half(life: timedelta) -> None:
    """Whatever the life, there is time left to try again."""
    due = decide.renew_at(NOW, NOW + life)
    assert NOW + life / 2 <= due + timedelta(microseconds=1)
    assert due < NOW + life
    assert NOW + life - due >= min(life / 3, life / 2)


@given(st.integers(1, 1000), st.one_of(st.none(), SPANS), st.one_of(st.none(), st.floats(0, 1e9)))
def test_an_authority_is_asked_again_within_bounds(failures: int, left: timedelta | None, told_s: float | None) -> None:
    """Never at once, at most each six hours, sooner in an emergency; what it asks for itself is obeyed up to a day."""
    end = NOW + left if left is not None else None
    pause_s = (decide.retry_at(NOW, failures, end, told_s) - NOW).total_seconds()
    is_emergency = left is None or left < decide.EMERGENCY
    most_s = decide.MOST_RETRY_IN_EMERGENCY_S if is_emergency else decide.MOST_RETRY_S
    assert decide.FIRST_RETRY_S <= pause_s <= max(most_s, min(told_s or 0, decide.MOST_RETRY_AFTER_S))
    assert pause_s >= min(told_s or 0, decide.MOST_RETRY_AFTER_S) - 1e-3
    assert decide.retry_at(NOW, failures + 1, end, told_s) >= decide.retry_at(NOW, failures, end, told_s)


def test_validity_says_when() -> None:
    """Before, within and after; days left become negative."""
    assert decide.validity(NOW - DAY, NOW + DAY, NOW) == ""
    assert decide.validity(NOW - DAY, NOW, NOW).startswith("expired at 2026-11-23 12:00 UTC")
    assert "not valid before 2026-11-24 12:00" in decide.validity(NOW + DAY, NOW + 2 * DAY, NOW)
    assert decide.days_left(NOW + DAY / 2, NOW) == 0.5
    assert decide.days_left(NOW - DAY, NOW) == -1


def test_the_first_token_is_due_at_once() -> None:
    """Nothing was tried yet."""
    assert decide.token_due_at(None, 0, 300, not_before=None, not_after=None) is None


@given(SPANS, SPANS, st.floats(1, 86400), st.integers(0, 1000))
def test_the_next_token_is_due_in_time(old: timedelta, left: timedelta, refresh_s: float, failures: int) -> None:
    """Within the refresh interval and a quarter of its life; after failures within a minute; never at once again."""
    first = timedelta(seconds=decide.FIRST_TOKEN_RETRY_S)
    due = decide.token_due_at(NOW, failures, refresh_s, not_before=NOW - old, not_after=NOW + left)
    assert due is not None
    assert NOW < due <= NOW + max(timedelta(seconds=refresh_s), first)
    if failures:
        assert due <= NOW + timedelta(seconds=decide.MOST_TOKEN_RETRY_S)
    else:
        assert due <= NOW + max((old + left) / 4, first)
    assert decide.token_due_at(NOW, 0, refresh_s, not_before=None, not_after=None) == NOW + max(
        timedelta(seconds=refresh_s), first
    )


@given(st.integers(1, 1000), st.floats(1, 86400))
def test_token_retries_slow_down_and_are_bounded(failures: int, refresh_s: float) -> None:
    """Pauses grow, up to a minute or the refresh interval."""
    found = decide.token_retry_s(failures, refresh_s)
    assert 0 < found <= min(decide.MOST_TOKEN_RETRY_S, refresh_s)
    assert found <= decide.token_retry_s(failures + 1, refresh_s)
