"""Rows of squeue and sacct, as the Superfacility API returns them, into typed batch jobs.

squeue rows have the columns of `squeue -o %all`, sacct rows those of `sacct -P -o ALL`; keys are the headers in lower
case, every value is text (Slurm 22.05: JOBID, GROUP and PRIORITY come twice in %all, the last one wins; the id with
its task list is therefore in `array_job_id` and `array_task_id`). Instants have no zone: the machine's is an argument.
A blank or a bar in a free text can shift the columns of a row; a shifted row fails here, it is never half believed.
Sources: https://slurm.schedmd.com/squeue.html, https://slurm.schedmd.com/sacct.html.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from libs.runtime.errors import Malformed
from libs.slurm import arrays, states

Row = Mapping[str, object]

# Texts that Slurm prints where there is nothing: squeue, sacct, both for instants that lie ahead or never came.
_NOTHING = frozenset({"", "(null)", "N/A", "n/a", "None", "Unknown", "None assigned", "INVALID"})
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SACCT_ID = re.compile(r"([0-9]{1,18})(?:\+[0-9]+)?(?:_([0-9]+|\[.*))?(\.[\w+.]+)?", re.ASCII)
_EXIT = re.compile(r"([0-9]{1,5}):([0-9]{1,5})", re.ASCII)
_LENGTH = re.compile(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]{1,6})?)", re.ASCII)
_STATE = re.compile(r"[A-Z?][A-Z_?]*\+?( by [0-9]+)?", re.ASCII)


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a batch job, or the tasks of a job array that share everything (a pending block is ONE row).

    `array_job_id` is what sbatch answered; `indices` the array tasks that the row stands for: () for a plain job, None
    when Slurm cut the list (`...`), so the number of jobs is not known; `named` are then those before the cut.
    `started_at` is given once it ran, `ended_at` once it ended, `ends_by` (its time limit) while it runs; `exit_code`
    and `signal` come from sacct alone, which takes 128 off a code from 128 on. `raw_id` is the task's own job id;
    `nodes` how many it has or asks for, `elapsed_s` how long it ran (sacct), `cpu_s` its user and system time (sacct).
    Empty text, or None, where Slurm has none.
    """

    array_job_id: int
    indices: tuple[int, ...] | None
    name: str
    user: str
    state: states.State
    comment: str = ""
    reason: str = ""
    qos: str = ""
    account: str = ""
    node_list: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    named: tuple[int, ...] = ()
    raw_id: int | None = None
    nodes: int | None = None
    eligible_at: datetime | None = None
    ends_by: datetime | None = None
    elapsed_s: int | None = None
    cpu_s: float | None = None

    @property
    def jobs(self) -> int:
        """How many batch jobs the row stands for. Malformed when the list was cut: it must not be counted."""
        if self.indices is None:
            raise Malformed(f"batch job {self.array_job_id}: its list of array tasks was cut and cannot be counted")
        return len(self.indices) or 1


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that could be read, and a reason for each that could not or was cut; without reasons it is whole."""

    jobs: tuple[BatchJob, ...]
    faults: tuple[str, ...] = ()


def parse_instant(text: str, zone: ZoneInfo) -> datetime | None:
    """A local instant of Slurm (`2026-11-23T03:00:00`) in UTC; None for Unknown, N/A, None and the like.

    Malformed for anything else. In the hour that a zone repeats in autumn the first pass is taken: the text cannot say.
    """
    if text in _NOTHING:
        return None
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"{text[:40]!r} is not an instant of Slurm's") from None
    if local.tzinfo is None:
        local = local.replace(tzinfo=zone)
    try:
        return local.astimezone(UTC)
    except OverflowError:
        raise Malformed(f"{text[:40]!r} is beyond the calendar") from None


def parse_squeue(rows: Iterable[Row], zone: ZoneInfo) -> Parsed:
    """All rows of a squeue listing. A row that cannot be read becomes a fault, never an exception."""
    jobs: list[BatchJob] = []
    faults: list[str] = []
    for row in rows:
        try:
            job = squeue_job(row, zone)
        except Malformed as error:
            faults.append(f"squeue row {_label(row, 'jobid')}: {error}")
            continue
        if job.indices is None:
            faults.append(f"squeue row {job.array_job_id}: its list of array tasks was cut short")
        jobs.append(job)
    return Parsed(jobs=tuple(jobs), faults=tuple(faults))


def parse_sacct(rows: Iterable[Row], zone: ZoneInfo) -> Parsed:
    """All rows of a sacct answer; steps (`5_0.batch`) are left out. A row that cannot be read becomes a fault."""
    jobs: list[BatchJob] = []
    faults: list[str] = []
    for row in rows:
        try:
            job = sacct_job(row, zone)
        except Malformed as error:
            faults.append(f"sacct row {_label(row, 'jobid')}: {error}")
            continue
        if job is not None and job.indices is None:
            faults.append(f"sacct row {job.array_job_id}: its list of array tasks was cut short")
        if job is not None:
            jobs.append(job)
    return Parsed(jobs=tuple(jobs), faults=tuple(faults))


def squeue_job(row: Row, zone: ZoneInfo) -> BatchJob:
    """One row of squeue. Malformed when a column is missing or holds what it cannot hold."""
    state = _state(row)
    started_at = parse_instant(_text(row, "start_time"), zone)
    ended_at = parse_instant(_text(row, "end_time"), zone)
    submitted_at = parse_instant(_text(row, "submit_time"), zone)
    task_text = _text(row, "array_task_id")
    # squeue shows expected starts of pending jobs and expected ends of running ones in the same columns.
    has_started = state.phase in (states.Phase.RUNNING, states.Phase.ENDED)
    return BatchJob(
        array_job_id=_number(row, "array_job_id"),
        indices=_indices(None if task_text in _NOTHING else task_text),
        named=_named(task_text),
        raw_id=_count(row, "jobid"),
        nodes=_count(row, "nodes"),
        name=_text(row, "name"),
        user=_text(row, "user"),
        state=state,
        comment=_free(row, "comment"),
        reason=_free(row, "reason"),
        qos=_free(row, "qos"),
        account=_free(row, "account"),
        node_list=_free(row, "nodelist"),
        submitted_at=submitted_at,
        started_at=started_at if has_started else None,
        ended_at=ended_at if state.phase is states.Phase.ENDED else None,
        ends_by=ended_at if state.phase is states.Phase.RUNNING else None,
    )


def sacct_job(row: Row, zone: ZoneInfo) -> BatchJob | None:
    """One row of sacct, or None for a step of a job. Malformed when a column is missing or holds what it cannot."""
    job_id = _SACCT_ID.fullmatch(_text(row, "jobid"))
    if job_id is None:
        raise Malformed(f"job id {_text(row, 'jobid')[:40]!r} is not a job, an array task or a step")
    if job_id[3]:
        return None
    state = _state(row)
    exit_code, signal = _exit(_text(row, "exitcode"))
    ended = state.phase is states.Phase.ENDED
    return BatchJob(
        array_job_id=int(job_id[1]),
        indices=_indices(job_id[2]),
        named=_named(job_id[2] or ""),
        raw_id=_count(row, "jobidraw"),
        nodes=_count(row, "nnodes"),
        name=_text(row, "jobname"),
        user=_text(row, "user"),
        state=state,
        comment=_free(row, "comment"),
        reason=_free(row, "reason"),
        qos=_free(row, "qos"),
        account=_free(row, "account"),
        node_list=_free(row, "nodelist"),
        submitted_at=parse_instant(_text(row, "submit"), zone),
        started_at=parse_instant(_text(row, "start"), zone),
        ended_at=parse_instant(_text(row, "end"), zone) if ended else None,
        exit_code=exit_code if ended else None,
        signal=signal if ended else None,
        eligible_at=parse_instant(_free(row, "eligible"), zone),
        elapsed_s=_count(row, "elapsedraw"),
        cpu_s=_length_s(_free(row, "totalcpu")),
    )


def _indices(task_text: str | None) -> tuple[int, ...] | None:
    if task_text is None:
        return ()
    tasks = arrays.parse_tasks(task_text)
    return None if tasks is arrays.CUT else tasks.indices


def _named(task_text: str) -> tuple[int, ...]:
    return arrays.named_before_cut(task_text) if "..." in task_text else ()


def _state(row: Row) -> states.State:
    text = _text(row, "state")
    # A word of any other shape is no state that a newer Slurm invented, but a column that slipped.
    if not _STATE.fullmatch(text):
        raise Malformed(f"state {text[:40]!r} does not look like one")
    return states.classify(text)


def _exit(text: str) -> tuple[int, int]:
    match = _EXIT.fullmatch(text)
    if match is None:
        raise Malformed(f"exit code {text[:40]!r} is not <code>:<signal>")
    return int(match[1]), int(match[2])


def _number(row: Row, column: str) -> int:
    text = _text(row, column)
    if not _NUMBER.fullmatch(text):
        raise Malformed(f"column {column} is {text[:40]!r}, not a number")
    return int(text)


def _count(row: Row, column: str) -> int | None:
    """A number that only makes the record richer."""
    text = _free(row, column)
    return int(text) if _NUMBER.fullmatch(text) else None


def _length_s(text: str) -> float | None:
    """Slurm's `[days-][hours:]minutes:seconds[.fraction]` in seconds; None for anything else."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _free(row: Row, column: str) -> str:
    """A text for people; a facility that leaves the column out only makes the record poorer."""
    text = row.get(column, "")
    return text if isinstance(text, str) and text not in _NOTHING else ""


def _text(row: Row, column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise Malformed(f"column {column} is missing or not text")
    return text


def _label(row: Row, column: str) -> str:
    return str(row.get(column, "?"))[:40]
