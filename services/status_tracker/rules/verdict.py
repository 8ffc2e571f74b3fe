"""What became of an ended job agent: a word to count by, and a sentence for people. Pure.

sacct takes 128 off an exit code from 128 on, so a code alone proves nothing: that a batch job was void needs its own
submit time beyond void_after, and what the batch script found missing it found within its first minutes.
"""

from datetime import datetime, timedelta

import msgspec

from libs.events import messages
from libs.events.messages import JobAgent
from libs.slurm.states import Ending, classify

# Exit codes of our batch script. 86 to 89 are of its checks: what a node lacks, as a word and for people.
VOID_EXIT_CODE = 85
CHECKS: dict[int, tuple[messages.Ending, str]] = {
    86: ("no_cvmfs", "no CVMFS"),
    87: ("no_token", "no readable job-agent token"),
    88: ("no_java", "no JDK or jar for its architecture"),
    89: ("no_directory", "no work directory"),
}
# The batch script looks for what the agent needs before it starts it; a file system may take its time to say no.
CHECKS_TAKE_AT_MOST = timedelta(seconds=300)
FORGOTTEN = "forgotten: Slurm acknowledged it and knows nothing of it any more"

_ENDINGS: dict[Ending, messages.Ending] = {
    Ending.OK: "completed",
    Ending.FAILED: "failed",
    Ending.CANCELLED: "cancelled",
    Ending.TIME_LIMIT: "time_limit",
    Ending.NODE_FAILED: "node_failed",
    Ending.OUT_OF_MEMORY: "out_of_memory",
    Ending.PREEMPTED: "preempted",
    Ending.REVOKED: "revoked",
}


def judged(record: JobAgent, void_after: datetime | None) -> JobAgent:
    """The record with `ending`, `verdict` and `void` as its other fields make them; empty ones while it lives.

    `void_after` is its submission's, None when nothing says it.
    """
    if record.state == "forgotten":
        return msgspec.structs.replace(record, ending="forgotten", verdict=FORGOTTEN, void=False)
    word = _ending(record, void_after) if record.state == "ended" else ""
    words = _words(record, word) if word else ""
    return msgspec.structs.replace(record, ending=word, verdict=words, void=word == "void")


def _ending(record: JobAgent, void_after: datetime | None) -> messages.Ending:
    state = classify(record.slurm_state)
    if state.ending is None:
        return ""
    word = _ENDINGS[state.ending]
    if word == "completed" and record.fruitless and not record.grid_jobs_total:
        return "no_grid_jobs"
    if word != "failed":
        return word
    if record.signal:
        return "killed"
    # What was void stays void, also when its submission has left the books.
    if record.exit_code == VOID_EXIT_CODE and (record.void or _was_late(record, void_after)):
        return "void"
    if record.exit_code in CHECKS and _ended_early(record):
        return CHECKS[record.exit_code][0]
    return word


def _was_late(record: JobAgent, void_after: datetime | None) -> bool:
    """As the batch script compares: in whole seconds."""
    if void_after is None or record.submit_at is None:
        return False
    return int(record.submit_at.timestamp()) > int(void_after.timestamp())


def _ended_early(record: JobAgent) -> bool:
    return (
        record.start_at is not None
        and record.end_at is not None
        and record.end_at - record.start_at <= CHECKS_TAKE_AT_MOST
    )


def _words(record: JobAgent, word: messages.Ending) -> str:
    where = f" on {record.nodes}" if record.nodes else ""
    if word in _SAID_BY_CHECKS:
        return _SAID_BY_CHECKS[word] + where
    if word == "failed":
        code = record.exit_code
        what = "failed" if code is None else f"failed with exit code {code}"
        # A void batch job, or one whose checks failed, exits with these codes, too.
        other = f" (or {code + 128})" if code is not None and code in (VOID_EXIT_CODE, *CHECKS) else ""
        return f"{what}{other}{where}{_after(record)}"
    if word == "cancelled":
        by = classify(record.slurm_state).cancelled_by
        who = "" if by is None else f" by user id {by}"
        return f"cancelled{who}{_after(record)}" if record.start_at else f"cancelled{who} before it started"
    return {
        "completed": f"completed{_after(record)}",
        "no_grid_jobs": f"no matching grid jobs: exited after {_number(record.fruitless, 'try', 'tries')}",
        "time_limit": f"ended by its time limit{_after(record)}",
        "killed": f"killed by signal {record.signal}{where}{_after(record)}",
        "node_failed": f"node failed{where}{_after(record)}",
        "out_of_memory": f"out of memory{where}{_after(record)}",
        "preempted": f"preempted{_after(record)}",
        "revoked": "revoked: a sibling in another cluster ran",
        "void": f"void: executed after void_after{where}",
    }[word]


_SAID_BY_CHECKS = dict(CHECKS.values())


def _after(record: JobAgent) -> str:
    """How much it did before its end, where its datagrams say so."""
    if record.monitored_at is None:
        return ""
    if not record.grid_jobs_total:
        return " without a grid job"
    return f" after {_number(record.grid_jobs_total, 'grid job', 'grid jobs')}"


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
