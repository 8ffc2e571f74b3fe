"""What to do about a credential, and when the next token is due. Pure."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

RENEW_SHARE = 4
ALARM_BEFORE = timedelta(days=2)
FIRST_RETRY_S = 2.0
MOST_RETRY_S = 60.0
MOST_DOUBLINGS = 16


class Action(enum.Enum):
    """What to do about a credential."""

    KEEP = "keep"
    RENEW = "renew"
    RELOAD = "reload"
    ALARM = "alarm"


@dataclass(frozen=True)
class Seen:
    """One credential as found.

    `problem` says why it cannot be used, empty when it can. `is_new`: it differs from the one in effect. `due_at`: when
    we make the next one ourselves, None when somebody else does.
    """

    problem: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    is_new: bool = False
    due_at: datetime | None = None


def decide(seen: Seen, now: datetime) -> Action:
    """Take a good new one; make one that is due or has used three quarters of its life; alarm before the end."""
    if seen.is_new and not seen.problem:
        return Action.RELOAD
    if seen.due_at is not None and now >= seen.due_at:
        return Action.RENEW
    if seen.problem or _is_within(seen, now, ALARM_BEFORE):
        return Action.ALARM
    return Action.KEEP


def due_at(
    tried_at: datetime | None,
    failures: int,
    refresh_s: float,
    *,
    not_before: datetime | None,
    not_after: datetime | None,
) -> datetime | None:
    """When the next token is to be asked for; None: at once, none was ever tried.

    Each refresh interval, earlier in the last quarter of the token's life, and with growing pauses after failures.
    """
    if tried_at is None:
        return None
    if failures:
        return tried_at + timedelta(seconds=retry_s(failures, refresh_s))
    due = tried_at + timedelta(seconds=refresh_s)
    if not_before is not None and not_after is not None:
        due = min(due, not_after - (not_after - not_before) / RENEW_SHARE)
    return max(due, tried_at + timedelta(seconds=FIRST_RETRY_S))


def retry_s(failures: int, refresh_s: float) -> float:
    """The pause after so many failures in a row: doubling, at most a minute, never longer than the refresh interval."""
    return min(FIRST_RETRY_S * 2.0 ** min(failures - 1, MOST_DOUBLINGS), MOST_RETRY_S, refresh_s)


def validity(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """Why a certificate does not hold now; empty when it does."""
    if now >= not_after:
        return f"expired at {not_after:%Y-%m-%d %H:%M} UTC"
    if now < not_before:
        return f"not valid before {not_before:%Y-%m-%d %H:%M} UTC; is this machine's clock right?"
    return ""


def days_left(not_after: datetime, now: datetime) -> float:
    """Days to the end, negative after it."""
    return round((not_after - now) / timedelta(days=1), 3)


def _is_within(seen: Seen, now: datetime, window: timedelta) -> bool:
    if seen.not_before is None or seen.not_after is None:
        return False
    return seen.not_after - now < min(window, (seen.not_after - seen.not_before) / RENEW_SHARE)
