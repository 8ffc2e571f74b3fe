"""Submissions: events of their life, the journal of decisions, and the record in `submissions`."""

from datetime import datetime
from typing import Literal

import msgspec

from libs.events.messages.event import Event

SubmissionState = Literal["intended", "accepted", "refused", "unclear", "adopted", "abandoned", "forgotten"]


class SubmissionEvent(Event, frozen=True, kw_only=True):
    """One submission: `name` is its id and the Slurm job name, `agents` the size of its job array."""

    ce: str
    name: str
    agents: int


class SubmissionIntended(SubmissionEvent, frozen=True, kw_only=True):
    """Recorded before the first byte of the POST leaves. `fence` is the submitter's lease revision."""

    void_after: datetime
    replaces: str | None = None
    fence: int = 0


class SubmissionAccepted(SubmissionEvent, frozen=True, kw_only=True):
    """Slurm answered with a job id."""

    job_id: str


class SubmissionRefused(SubmissionEvent, frozen=True, kw_only=True):
    """Slurm or the facility said no: `kind` is our class of the refusal, `text` theirs, whole."""

    kind: str
    text: str


class SubmissionUnclear(SubmissionEvent, frozen=True, kw_only=True):
    """The answer was lost: a batch job may exist, now or until `void_after`."""

    why: str


class SubmissionAdopted(SubmissionEvent, frozen=True, kw_only=True):
    """An unclear submission, or one that only Slurm still knew, was found in a listing by its name."""

    job_id: str


class SubmissionAbandoned(SubmissionEvent, frozen=True, kw_only=True):
    """An unclear submission that no complete listing showed until its batch job would be void."""

    why: str


class SubmissionForgotten(SubmissionEvent, frozen=True, kw_only=True):
    """Slurm acknowledged the submission and lost it again."""

    why: str


class DecisionInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers one decision was made from; None is unknown. Ages in seconds at the decision.

    `starting`: agents that run, but started too lately to have taken their grid jobs from what `waiting` counts.
    """

    waiting: int | None
    max_jobs: int | None
    max_queued: int | None
    queued: int | None
    running: int | None
    unaccounted: int | None
    unlisted: int
    unlisted_all_ces: int
    starting: int
    user_jobs_in_qos: int | None
    demand_age_s: float | None
    listing_age_s: float | None


class SubmissionDecided(Event, frozen=True, kw_only=True):
    """The journal: one decision of one CE, its inputs, what each limit left room for and the one that `bound`."""

    ce: str
    submit: int
    bound: str
    why: str
    inputs: DecisionInputs
    limits: dict[str, int] = {}


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one submission in the bucket `submissions`, under its name. `why` explains the last state.

    `traceparent` is the W3C context of the decision that made it: the tracker links its verdicts to it.
    `agents_per_job`: how many agents each batch job of the array holds, one per node; `agents` counts them all.
    """

    name: str
    ce: str
    machine: str
    agents: int
    state: SubmissionState
    intended_at: datetime
    void_after: datetime
    changed_at: datetime
    fence: int
    qos: str = ""
    job_id: str = ""
    replaces: str | None = None
    why: str = ""
    traceparent: str = ""
    agents_per_job: int = 1
