"""What to do about a credential, when the next one is due, and how loudly its end is told. Pure.

Long-lived ones (28 days and more) alarm 14, 7 and 2 days before their end, shorter ones at a half, a quarter and an
eighth of their life. What we make ourselves is made anew in the last third of its life, or ten days before its end if
that is sooner, so that an alarm always means that something failed.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

LONG_LIFE = timedelta(days=28)
ALARMS = (timedelta(days=14), timedelta(days=7), timedelta(days=2))
SHORT_ALARM_SHARES = (2, 4, 8)

RENEW_SHARE = 3
RENEW_BEFORE = timedelta(days=10)
# Tokens live up to two days, and nothing may end within two: https://gitlab.cern.ch/jalien/jalien, JAKeyStore.
EMERGENCY = timedelta(days=4)

FIRST_RETRY_S = 60.0
MOST_RETRY_S = 6 * 3600.0
MOST_RETRY_IN_EMERGENCY_S = 900.0
MOST_RETRY_AFTER_S = 86_400.0

TOKEN_SHARE = 4
FIRST_TOKEN_RETRY_S = 2.0
MOST_TOKEN_RETRY_S = 60.0
MOST_DOUBLINGS = 16


class Action(enum.Enum):
    """What to do about a credential."""

    KEEP = "keep"
    RENEW = "renew"
    RELOAD = "reload"
    ALARM = "alarm"


class Alarm(enum.IntEnum):
    """How near the end is. CRITICAL also when it is over."""

    NONE = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """As `credential.observed` has it; empty for none."""
        return self.name.lower() if self else ""


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
    """Take a good new one; make one that is due; alarm before the end; else keep what there is."""
    if seen.is_new and not seen.problem:
        return Action.RELOAD
    if seen.due_at is not None and now >= seen.due_at:
        return Action.RENEW
    if seen.problem or alarm(seen.not_before, seen.not_after, now):
        return Action.ALARM
    return Action.KEEP


def alarm(not_before: datetime | None, not_after: datetime | None, now: datetime) -> Alarm:
    """The alarm at this instant; none for what has no known end. Without a known begin a long life is taken."""
    if not_after is None:
        return Alarm.NONE
    life = not_after - not_before if not_before is not None else LONG_LIFE
    windows = ALARMS if life >= LONG_LIFE else tuple(life / share for share in SHORT_ALARM_SHARES)
    return Alarm(sum(not_after - now <= window for window in windows) if now < not_after else Alarm.CRITICAL)


def renew_at(not_before: datetime, not_after: datetime) -> datetime:
    """When a certificate is made anew: in its last third or ten days before its end, never in its first half."""
    life = not_after - not_before
    return not_after - min(max(life / RENEW_SHARE, RENEW_BEFORE), life / 2)


def retry_at(
    tried_at: datetime, failures: int, not_after: datetime | None, retry_after_s: float | None = None
) -> datetime:
    """When to ask for a certificate again: the pause doubles from a minute to six hours, in an emergency to 15 minutes.

    The authority's own Retry-After is obeyed, up to a day.
    """
    is_emergency = not_after is None or not_after - tried_at < EMERGENCY
    most_s = MOST_RETRY_IN_EMERGENCY_S if is_emergency else MOST_RETRY_S
    pause_s = _doubled_s(FIRST_RETRY_S, failures, most_s)
    return tried_at + timedelta(seconds=max(pause_s, min(retry_after_s or 0.0, MOST_RETRY_AFTER_S)))


def token_due_at(
    tried_at: datetime | None,
    failures: int,
    refresh_s: float,
    *,
    not_before: datetime | None,
    not_after: datetime | None,
) -> datetime | None:
    """When the next token is to be made; None: at once, none was ever tried.

    Each refresh interval, at the least each quarter of the token's life, and with growing pauses after failures.
    """
    if tried_at is None:
        return None
    if failures:
        return tried_at + timedelta(seconds=token_retry_s(failures, refresh_s))
    pause = timedelta(seconds=refresh_s)
    if not_before is not None and not_after is not None:
        pause = min(pause, (not_after - not_before) / TOKEN_SHARE)
    return tried_at + max(pause, timedelta(seconds=FIRST_TOKEN_RETRY_S))


def token_retry_s(failures: int, refresh_s: float) -> float:
    """The pause after so many failures in a row: doubling, at most a minute, never longer than the refresh interval."""
    return _doubled_s(FIRST_TOKEN_RETRY_S, failures, min(MOST_TOKEN_RETRY_S, refresh_s))


def validity(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """Why a certificate does not hold now; empty when it does."""
    if now >= not_after:
        return f"expired at {not_after:%Y-%m-%d %H:%M} UTC; if that is not so, is this machine's clock right?"
    if now < not_before:
        return f"not valid before {not_before:%Y-%m-%d %H:%M} UTC; is this machine's clock right?"
    return ""


def days_left(not_after: datetime, now: datetime) -> float:
    """Days to the end, negative after it."""
    return round((not_after - now) / timedelta(days=1), 3)


def _doubled_s(first_s: float, failures: int, most_s: float) -> float:
    return min(first_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS), most_s)
