"""The messages of the bus and the records of its buckets. Bodies are JSON; every instant is aware and UTC.

Changes are additive: a new field has a default, a field is never renamed or given another meaning. A reader ignores
fields that it does not know. `version` counts the additive revisions of one message.
"""

from datetime import datetime
from typing import Literal

import msgspec

SubmissionState = Literal["intended", "accepted", "refused", "unclear", "adopted", "abandoned", "forgotten"]
AgentState = Literal["queued", "running", "unaccounted", "ended", "forgotten"]
FacilityStatus = Literal["active", "degraded", "unavailable", "other", "unknown"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries: `at`, the instant of the fact, and `by`, `<service>/<instance>` that says it.

    `ce`, where a message or record has one, is the CE's short name; `machine` the machine's.
    """

    at: datetime
    by: str
    version: int = 1


class CentralLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that ALICE sets for one CE on one host: active job agents and queued job agents."""

    max_jobs: int
    max_queued: int


class DemandObserved(Event, frozen=True, kw_only=True):
    """What the central services answered for one CE.

    `waiting` grid jobs and `limits` are None when unknown; `unknown_because` says why, and is empty when known.
    A CE that is `locked` centrally is known, whether or not `waiting` was asked. `limits_from` is `site_file` in shadow
    mode, where the central services are not asked for limits.
    """

    ce: str
    waiting: int | None = None
    limits: CentralLimits | None = None
    limits_from: Literal["central_services", "site_file"] = "central_services"
    locked: bool = False
    unknown_because: str = ""


class BatchQueueObserved(Event, frozen=True, kw_only=True):
    """One listing of the batch queue as seen by one CE.

    `listed_at` is the instant at which the listing was asked for. The counts of job agents (`queued`, `running`,
    `unaccounted`) are this CE's; `strangers` and `user_jobs_by_qos` count all batch jobs of our Slurm user on the
    machine. All are None when the listing was not complete, and `unknown_because` says why.
    """

    ce: str
    machine: str
    listed_at: datetime
    queued: int | None = None
    running: int | None = None
    unaccounted: int | None = None
    strangers: int | None = None
    user_jobs_by_qos: dict[str, int] | None = None
    unknown_because: str = ""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A planned outage of the machine, as the facility announces it."""

    name: str
    start_at: datetime
    end_at: datetime
    description: str = ""
    status: str = ""


class FacilityObserved(Event, frozen=True, kw_only=True):
    """The facility's own word on one machine: status, notes, planned outages. `unknown` when it did not answer."""

    machine: str
    status: FacilityStatus
    notes: list[str] = []
    planned_outages: list[Outage] = []
    unknown_because: str = ""


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


class JobAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one job agent in the bucket `job_agents`, under `<submission>.<array index>`.

    `first_listed_at` is the `listed_at` of the first observation that counted it. `job_id` is Slurm's, with the array
    index (`123_4`); ids may be reused after a controller crash, the name is the key. `run` counts Slurm's requeues.
    """

    agent: str
    submission: str
    index: int
    ce: str
    machine: str
    state: AgentState
    first_listed_at: datetime
    job_id: str = ""
    slurm_state: str = ""
    reason: str = ""
    nodes: str = ""
    qos: str = ""
    submit_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    run: int = 0
    missing_since: datetime | None = None
    void: bool = False
    verdict: str = ""


class JobAgentChanged(Event, frozen=True, kw_only=True):
    """A job agent's record changed: the whole new record, and its state before (None at first sight)."""

    was: AgentState | None
    record: JobAgent


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one submission in the bucket `submissions`, under its name. `why` explains the last state.

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


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential without its key. `days_left` is None when it has no known end; `problem` is empty when good."""

    kind: str
    source: str
    checked_at: datetime
    subject: str = ""
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    days_left: float | None = None
    problem: str = ""


class CredentialObserved(Event, frozen=True, kw_only=True):
    """Every credential that the site depends on."""

    credentials: list[Credential]


class CredentialRenewed(Event, frozen=True, kw_only=True):
    """A new credential took effect."""

    kind: str
    source: str
    subject: str = ""
    not_after: datetime | None = None


class MonitoringObserved(Event, frozen=True, kw_only=True):
    """One relay's totals of datagrams since `since`. `forwarded` is per destination, `dropped` per reason."""

    relay: str
    since: datetime
    received: int
    published: int
    refused: int
    forwarded: dict[str, int] = {}
    dropped: dict[str, int] = {}
    kernel_drops: int = 0


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease. `token` is random, so that a holder knows its own write after a lost answer."""

    holder: str
    token: str
    since: datetime
