"""Submissions: events of their life, the journal of decisions, and the record in `submissions`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from libs.events.messages.event import Event

SubmissionState = Literal["intended", "accepted", "refused", "unclear", "adopted", "abandoned", "forgotten"]
Purpose = Literal["work", "canary"]


class SubmissionEvent(Event, frozen=True, kw_only=True):
    """One submission: `name` is its id and the Slurm job name, `agents` the size of its job array."""

    ce: str
    name: str
    agents: int


class SubmissionIntended(SubmissionEvent, frozen=True, kw_only=True):
    """Recorded before the first byte of the POST leaves. `fence` is the submitter's lease revision.

    `purpose`: a canary is one agent that tries whether others would live. `time_limit_s` 0 is not known.
    """

    void_after: datetime
    replaces: str | None = None
    fence: int = 0
    purpose: Purpose = "work"
    agents_per_job: int = 1
    time_limit_s: int = 0


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


class SubmissionWithdrawn(SubmissionEvent, frozen=True, kw_only=True):
    """Queued agents of the submission were cancelled: `withdrawn` names them, by their keys in `job_agents`."""

    withdrawn: list[str]
    why: str


class DecisionInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers one decision was made from; None is unknown. Ages in seconds at the decision.

    `starting`: agents that run, but started too lately to have taken their grid jobs from what `waiting` counts.
    `unlisted_jobs_in_qos`: batch jobs with an unlisted agent, of every CE in this QOS. Of this CE's latest agents
    `proven` lived long enough, `failed` did not, `unproven` were not seen to do either yet.
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
    facility_age_s: float | None = None
    unlisted_jobs_in_qos: int = 0
    proven: int = 0
    failed: int = 0
    unproven: int = 0
    suspected_nodes: int = 0
    node_hours_left: float | None = None
    node_hours_age_s: float | None = None


class SubmissionDecided(Event, frozen=True, kw_only=True):
    """The journal: one decision of one CE, its inputs, what each limit left room for and the one that `bound`.

    `time_limit_s`: what the new batch jobs ask for, shorter before an outage; 0 when there are none. `withdraw`: queued
    agents to be cancelled because nothing waits for them any more. `warnings` are for people.
    """

    ce: str
    submit: int
    bound: str
    why: str
    inputs: DecisionInputs
    limits: dict[str, int] = {}
    purpose: Purpose = "work"
    time_limit_s: int = 0
    withdraw: int = 0
    warnings: list[str] = []


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one submission in the bucket `submissions`, under its name. `why` explains the last state.

    `agents` job agents run in batch jobs of `agents_per_job` nodes each, one agent per node; the batch jobs are the
    tasks of one job array. `recipe` is the fingerprint of the agents' command (`Recipe`), `kind` our class of a
    refusal, `time_limit_s` what was asked of Slurm (0: not known).
    `traceparent` is the W3C context of the decision that made it: the tracker links its verdicts to it.
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
    purpose: Purpose = "work"
    recipe: str = ""
    kind: str = ""
    time_limit_s: int = 0

    @property
    def batch_jobs(self) -> int:
        """How many batch jobs hold its agents: the size of the job array."""
        return -(-self.agents // self.agents_per_job)

    def agents_of(self, index: int) -> Iterator[str]:
        """Keys in `job_agents` of the agents of one array task: `<submission>.<index>`, or one per node's rank."""
        if self.agents_per_job == 1:
            yield f"{self.name}.{index}"
            return
        for rank in range(self.agents_per_job):
            yield f"{self.name}.{index}.{rank}"

    def agent_keys(self) -> Iterator[str]:
        """Keys in `job_agents` of all its agents."""
        for index in range(self.batch_jobs):
            yield from self.agents_of(index)
