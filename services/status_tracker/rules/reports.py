"""What an ApMon datagram from a worker node says about a job agent. Pure.

JAliEn names its senders: cluster `ALIEN_alien.site.JobAgent_Nodes` or `..JobRunner_Nodes` with node `host:pid[:n]`,
cluster `<CE>_Jobs` with the ALICE job id as node, and `ALIEN_System_Nodes`, `ALIEN_Self..` with just the host.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from libs.apmon.datagram import Parameter

AGENT_CLUSTERS = ("ALIEN_alien.site.JobAgent_Nodes", "ALIEN_alien.site.JobRunner_Nodes")
HOST_CLUSTERS = ("ALIEN_System_Nodes", "ALIEN_Self")
JOBS_SUFFIX = "_Jobs"
BATCH_ID_NAMES = ("BatchId", "batchid", "SLURM_JOB_ID", "SLURM_JOBID")
JOB_ID_NAMES = ("job_id", "jobID", "jobid")
# JAliEn's states of a job agent, in `ja_status`.
REQUESTING, HAS_JOB = 1, (3, 4)
# AliEn's level of a grid job that is done.
JOB_DONE = 15
LARGEST_JOB_ID, LONGEST_JOB_ID = 1 << 53, 15


class Report(NamedTuple):
    """What one datagram says. `process` is `host:pid` where it names one; `grid_job` an ALICE job id.

    `working`: the agent has a grid job just now (None: it does not say); `requesting`: it asks for one.
    """

    host: str
    process: str = ""
    batch_id: str = ""
    grid_job: int | None = None
    working: bool | None = None
    requesting: bool = False


def report_of(cluster: str, node: str, parameters: Iterable[Parameter]) -> Report | None:
    """What a datagram says about a job agent; None when its sender is none of a job agent's."""
    values = {parameter.name: parameter.value for parameter in parameters}
    batch_id = next((_word(values[name]) for name in BATCH_ID_NAMES if name in values), "")
    if cluster in AGENT_CLUSTERS:
        host, _, rest = node.partition(":")
        pid = rest.partition(":")[0]
        return Report(
            host=_short(host),
            process=f"{_short(host)}:{pid}" if pid else "",
            batch_id=batch_id,
            grid_job=next((_job_id(values[name]) for name in JOB_ID_NAMES if name in values), None),
            working=_working(values),
            requesting=values.get("ja_status") == REQUESTING,
        )
    if cluster.endswith(JOBS_SUFFIX):
        named, status = values.get("host"), values.get("status")
        return Report(
            host=_short(named) if isinstance(named, str) else "",
            batch_id=batch_id,
            grid_job=_job_id(node),
            # A job's status on its own is a level of AliEn's: from DONE on, and below zero, it is over.
            working=0 < status < JOB_DONE if isinstance(status, int | float) else True,
        )
    if cluster.startswith(HOST_CLUSTERS):
        return Report(host=_short(node.partition(":")[0]), batch_id=batch_id)
    return None


def _working(values: Mapping[str, str | int | float]) -> bool | None:
    running, status = values.get("runningja"), values.get("ja_status")
    if isinstance(running, int | float):
        return running > 0
    if isinstance(status, int | float):
        return status in HAS_JOB
    return None


def _job_id(value: str | float) -> int | None:
    if isinstance(value, str):
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= LONGEST_JOB_ID else 0
    else:
        number = int(value) if math.isfinite(value) and abs(value) < LARGEST_JOB_ID else 0
    return number if number > 0 else None


def _word(value: str | float) -> str:
    return value if isinstance(value, str) else str(_job_id(value) or "")


def _short(host: str) -> str:
    return host.partition(".")[0]
