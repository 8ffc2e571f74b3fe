"""When to list the batch queue again. Pure.

Soon after a submission, until its agents are listed; soon after an agent is expected to end, while so few are active
that one end matters; seldom while there is nothing to see. Whoever waits for a listing must not find it too old, so
the longest pause is given from outside.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import Submission
from libs.slurm.states import Phase
from services.status_tracker.rules.absence import OPEN
from services.status_tracker.rules.counting import Sighting

# Above this somebody ends in every cycle anyway, and looking more often would only cost the facility.
FEW = 50
# Slurm needs a moment to end what is over its time.
GRACE_S = 2.0
# States that do not last.
PASSING = ("CONFIGURING", "COMPLETING", "STAGE_OUT")


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from one listing to the next: at least `quick_s`, usually `usual_s`, `slow_s` when there is nothing."""

    quick_s: float
    usual_s: float
    slow_s: float


def pause_s(
    pace: Pace, seen: Iterable[Sighting], submissions: Iterable[Submission], *, listed_at: datetime, lag_s: float
) -> float:
    """The pause after a complete listing that showed `seen`."""
    live = [one for one in seen if one.job.state.phase is not Phase.ENDED]
    listed = {one.submission for one in live}
    lately = listed_at - timedelta(seconds=lag_s)
    waiting = [one for one in submissions if one.state in OPEN and one.changed_at > lately and one.name not in listed]
    if waiting:
        return pace.quick_s
    if not live:
        return pace.slow_s
    if len(live) > FEW:
        return pace.usual_s
    if any(one.job.state.name in PASSING for one in live):
        return pace.quick_s
    ends_s = [(one.job.ends_by - listed_at).total_seconds() + GRACE_S for one in live if one.job.ends_by]
    ahead_s = [end_s for end_s in ends_s if end_s > 0]
    return max(pace.quick_s, min([pace.usual_s, *ahead_s]))
