"""What becomes of a submission after its POST. Pure.

intended -> accepted | refused | unclear          the outcome of the POST
intended -> unclear                               the submitter died before it could write the outcome
intended -> abandoned                             the request surely never left
unclear  -> adopted                               its agents were found in a listing, by name
unclear  -> abandoned                             a complete listing after void_after plus the lag lacks it
accepted, adopted -> forgotten                    Slurm lost every one of its agents
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import BatchQueueObserved, JobAgent, Submission, SubmissionState

TRANSITIONS: dict[SubmissionState, frozenset[SubmissionState]] = {
    "intended": frozenset({"accepted", "refused", "unclear", "abandoned"}),
    "unclear": frozenset({"adopted", "abandoned"}),
    "accepted": frozenset({"forgotten"}),
    "adopted": frozenset({"forgotten"}),
    "refused": frozenset(),
    "abandoned": frozenset(),
    "forgotten": frozenset(),
}
KEPT_FOR = timedelta(days=7)


def moved(submission: Submission, to: SubmissionState, now: datetime, *, why: str = "", job_id: str = "") -> Submission:
    """The record in its new state; ValueError when the table has no such transition."""
    if to not in TRANSITIONS[submission.state]:
        raise ValueError(f"{submission.name}: {submission.state} cannot become {to}")
    return msgspec.structs.replace(submission, state=to, changed_at=now, why=why, job_id=job_id or submission.job_id)


def settled(
    submission: Submission,
    agents: Sequence[JobAgent],
    listing: BatchQueueObserved | None,
    *,
    listing_lag_s: float,
    now: datetime,
) -> Submission | None:
    """The record as what was observed makes it; None when nothing changes. `agents` are the tracker's records of it."""
    if submission.state == "unclear":
        if agents:
            job_id = agents[0].job_id.partition("_")[0]
            return moved(submission, "adopted", now, job_id=job_id, why="found in a listing by its name")
        last_chance = submission.void_after + timedelta(seconds=listing_lag_s)
        if listing is not None and not listing.unknown_because and listing.listed_at > last_chance:
            return moved(submission, "abandoned", now, why="in no complete listing until it would be void")
    if submission.state in {"accepted", "adopted"}:
        lost = sum(agent.state == "forgotten" for agent in agents)
        if lost >= submission.agents:
            return moved(submission, "forgotten", now, why="Slurm acknowledged it and knows nothing of it any more")
    return None


def to_replace(submissions: Sequence[Submission], ce: str) -> Submission | None:
    """The oldest submission of the CE that died without an agent ever running and that nothing replaces yet."""
    replaced = {one.replaces for one in submissions}
    dead = [
        one
        for one in submissions
        if one.ce == ce and one.state in {"abandoned", "forgotten"} and one.name not in replaced
    ]
    return min(dead, key=lambda one: one.intended_at, default=None)


def outdated(submission: Submission, agents: Sequence[JobAgent], now: datetime) -> bool:
    """True when nothing of the submission can matter any more and its record may leave the bucket."""
    if now - submission.changed_at < KEPT_FOR or submission.state in {"intended", "unclear"}:
        return False
    if submission.state in {"refused", "abandoned", "forgotten"}:
        return True
    ended = [agent for agent in agents if agent.state in {"ended", "forgotten"}]
    return len(ended) >= submission.agents and all(
        agent.end_at is None or now - agent.end_at >= KEPT_FOR for agent in ended
    )
