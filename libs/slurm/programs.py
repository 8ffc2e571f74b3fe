"""Slurm's commands: their argument lists and environment, and their compact answers into rows. Pure.

Columns are separated by bars, the only two texts that may hold one come last; instants are UTC (`TZ=UTC`). The pending
tasks of an array are one line with their whole list (SLURM_BITSTR_LEN=0), not one line each: `squeue -r` of Slurm 22.05
leaves out the last task of a regular list (`0-198:2` without 198).
Sources: https://slurm.schedmd.com/squeue.html, sacct.html, sbatch.html, scancel.html.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from libs.runtime.errors import Malformed, Overloaded, Refused
from libs.slurm import rows
from libs.slurm.outcomes import TEXT_LIMIT, Accepted, Outcome, Refusal, RefusalKind, Unclear, read_failure

ZONE: Final = ZoneInfo("UTC")
# Ids or names in one command: about 8 kB, far below any limit on a command line, and what squeue answers is bounded.
ASKED_AT_ONCE = 150

# What squeue and sacct write depends on these. With a length of 0 no list of array tasks is cut.
READING: Final[Mapping[str, str]] = {"LC_ALL": "C", "TZ": "UTC", "SLURM_BITSTR_LEN": "0"}

# Column of rows.py -> format letter of squeue. The texts that may hold a bar come last.
_SQUEUE: Final = {
    "array_job_id": "%F", "array_task_id": "%K", "jobid": "%A", "state": "%T", "user": "%u", "submit_time": "%V",
    "start_time": "%S", "end_time": "%e", "qos": "%q", "account": "%a", "nodes": "%D", "nodelist": "%N",
    "reason": "%r", "name": "%j", "comment": "%k",
}  # fmt: skip
_SACCT: Final = (
    "jobid", "jobidraw", "state", "exitcode", "user", "submit", "eligible", "start", "end", "elapsedraw", "totalcpu",
    "qos", "account", "nnodes", "nodelist", "reason", "jobname", "comment",
)  # fmt: skip
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+:-]{0,199}", re.ASCII)
_JOB_ID = re.compile(r"[0-9]{1,10}(_[0-9]{1,9})?", re.ASCII)
_PARSABLE = re.compile(r"([0-9]{1,10})(;[\w.-]+)?", re.ASCII)
_REFUSED_READS = ("permission denied", "not authorized", "invalid field", "unrecognized option")


def squeue(user: str, names: Sequence[str] = ()) -> list[str]:
    """All live batch jobs of `user`, also in hidden partitions; or those with such names."""
    wanted = [f"--name={','.join(_checked(names, _NAME, 'job name'))}"] if names else []
    form = f"--format={'|'.join(_SQUEUE.values())}"
    return ["squeue", "-a", "-h", f"--user={_one(user, _USER, 'user')}", *wanted, form]


def sacct(user: str, since: datetime, *, job_ids: Sequence[str] = (), names: Sequence[str] = ()) -> list[str]:
    """Batch jobs of `user` (no steps) since an instant; by id or by name when given."""
    by_id = [f"--jobs={','.join(_checked(job_ids, _JOB_ID, 'job id'))}"] if job_ids else []
    by_name = [f"--name={','.join(_checked(names, _NAME, 'job name'))}"] if names else []
    window = f"--starttime={since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    form = f"--format={','.join(_SACCT)}"
    return ["sacct", "-X", "-n", "-P", f"--user={_one(user, _USER, 'user')}", window, *by_id, *by_name, form]


def sbatch(name: str) -> list[str]:
    """Submit the script on standard input; the id alone is printed. The name wins over the script's lines."""
    return ["sbatch", "--parsable", f"--job-name={_one(name, _NAME, 'job name')}"]


def scancel(job_ids: Sequence[str]) -> list[str]:
    """Cancel jobs and array tasks; Slurm passes over ids that it does not know."""
    return ["scancel", *_checked(job_ids, _JOB_ID, "job id")]


def squeue_rows(text: str) -> list[dict[str, str]]:
    """The lines of `squeue` as rows of rows.py; a short one stays short, and fails there."""
    return [_row(tuple(_SQUEUE), line) for line in text.splitlines()]


def sacct_rows(text: str) -> list[dict[str, str]]:
    """The lines of `sacct` as rows of rows.py."""
    return [_row(_SACCT, line) for line in text.splitlines()]


def parse(program: str, text: str) -> rows.Parsed:
    """What `squeue` or `sacct` printed, typed. Malformed for another program."""
    if program == "squeue":
        return rows.parse_squeue(squeue_rows(text), ZONE)
    if program == "sacct":
        return rows.parse_sacct(sacct_rows(text), ZONE)
    raise Malformed(f"{program!r} has no rows")


def raise_for_read(program: str, exit_code: int, error: str) -> None:
    """Raise what a failed squeue or sacct means; nothing when it succeeded.

    `squeue: error: Invalid user` comes with exit code 0 and no rows [22.05]: a name service that is away would look
    like a batch queue that is empty.
    """
    if exit_code == 0 and f"{program}: error" not in error:
        return
    text = f"{program} ended with {exit_code}: {error.strip()[:TEXT_LIMIT] or 'without a word'}"
    if any(words in error.lower() for words in _REFUSED_READS):
        raise Refused(text)
    raise Overloaded(text)


def submitted(exit_code: int, output: str, error: str) -> Outcome:
    """What sbatch said. A success without a number as id is unclear."""
    if exit_code != 0:
        # sbatch fails without a word only when it was killed: before or after its request, nobody knows.
        return read_failure(error.strip() or output.strip())
    words = output.split()
    match = _PARSABLE.fullmatch(words[-1]) if words else None
    if match is None:
        return Unclear(why=f"sbatch succeeded, but its job id {output.strip()[-40:]!r} is not a number")
    return Accepted(job_id=match[1])


def cancelled(job_ids: Sequence[str], exit_code: int, output: str, error: str) -> dict[str, Outcome]:
    """What scancel said, for each id that it was given."""
    if exit_code == 0:
        return {job_id: Accepted(job_id=job_id) for job_id in job_ids}
    return dict.fromkeys(job_ids, read_failure(error.strip() or output.strip()))


def refused_id(job_id: str) -> Refusal | None:
    """The refusal of what cannot be an id of a job or an array task; it must not reach a command line."""
    if _JOB_ID.fullmatch(job_id):
        return None
    return Refusal(kind=RefusalKind.REQUEST, text=f"{job_id[:40]!r} is not the id of a job or an array task")


def in_parts(asked: Iterable[str]) -> list[list[str]]:
    """Ids or names in lists that one request can carry; one empty list when nothing is asked for."""
    wanted = list(asked)
    return [wanted[start : start + ASKED_AT_ONCE] for start in range(0, len(wanted), ASKED_AT_ONCE)] or [[]]


def _row(columns: Sequence[str], line: str) -> dict[str, str]:
    return dict(zip(columns, line.split("|", len(columns) - 1), strict=False))


def _checked(words: Sequence[str], pattern: re.Pattern[str], what: str) -> list[str]:
    return [_one(word, pattern, what) for word in words]


def _one(word: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(word):
        raise Malformed(f"{word[:80]!r} cannot stand as a {what} in a command of Slurm's")
    return word
