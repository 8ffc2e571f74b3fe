"""What a listing of the batch queue showed."""

from datetime import datetime

from libs.events.messages.event import Event


class BatchQueueObserved(Event, frozen=True, kw_only=True):
    """One listing of the batch queue as seen by one CE.

    `listed_at` is the instant at which the listing was asked for. The counts of job agents (`queued`, `running`,
    `unaccounted`) are this CE's; `strangers` and `user_jobs_by_qos` count all batch jobs of our Slurm user on the
    machine. All are None when the listing was not complete, and `unknown_because` says why. Of the running agents
    `silent`, `idle` and `working` ones are known from their datagrams; the rest is unknown, and all are None when no
    datagram came lately.
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
    silent: int | None = None
    idle: int | None = None
    working: int | None = None
