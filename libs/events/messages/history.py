"""What stays of finished job agents: daily summaries, the map of who ran where, and what failed ones wrote."""

from datetime import datetime

import msgspec

from libs.events.messages.job_agent import Ending


class Finished(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One finished job agent in a line of the map; its key is `<submission>.<index>[.<rank>]`.

    `job_id` is Slurm's, with the array index; `node` its node, or several in Slurm's form; instants in unix seconds,
    None where Slurm had none; `grid_jobs` the ALICE job ids that it is known to have run, `grid_jobs_total` how many.
    `working_hours`, of its node hours, is None when no datagram of it came.
    """

    agent: str
    job_id: str
    node: str
    submit_s: int | None
    start_s: int | None
    end_s: int | None
    ending: Ending
    exit_code: int | None
    run: int
    node_hours: float | None
    working_hours: float | None
    grid_jobs_total: int
    grid_jobs: list[int]


class AgentMap(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the map agent - Slurm job - node - instants - ALICE job ids, of one CE and day of ending (UTC).

    Key: `<ce>.<YYYY-MM-DD>.<number>`, numbered from 0.
    """

    ce: str
    day: str
    agents: list[Finished]


class AgentDay(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of the job agents of one CE that ended on one day (UTC). Key: `<ce>.<YYYY-MM-DD>`.

    `endings` counts by ending. `node_hours` is what all of them took, `working_hours` the part in which they are known
    to have had grid jobs: `monitored_node_hours` is what those took that were heard at all, so that
    working_hours / monitored_node_hours is the efficiency. `parts` of the map are counted in.
    """

    ce: str
    day: str
    agents: int = 0
    endings: dict[str, int] = {}
    node_hours: float = 0.0
    monitored_node_hours: float = 0.0
    working_hours: float = 0.0
    grid_jobs: int = 0
    parts: int = 0


class AgentLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a job agent wrote: the head and the tail of its output, redacted. Key as in `job_agents`.

    `size_bytes` is the whole output's size; `tail` is empty when all of it is in `head`. `redacted` counts what was
    taken out; `problem` says why there is nothing, else it is empty.
    """

    agent: str
    path: str
    fetched_at: datetime
    size_bytes: int = 0
    head: str = ""
    tail: str = ""
    redacted: int = 0
    problem: str = ""
