"""Bodies of the Superfacility API's answers into typed values. Pure; a body of another shape is Malformed.

Source: https://api.nersc.gov/api/v1.2/openapi.json (QueueOutput, TaskId, Task, Status, Outage). Most failures come as
HTTP 200 with status ERROR, so the status inside is read before anything else, and a missing list is never an empty one.
"""

from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from libs.runtime.errors import Malformed, Overloaded, Refused
from libs.slurm.outcomes import TEXT_LIMIT, Accepted, Outcome, Refusal, Unclear, read_failure

T = TypeVar("T")

# Slurm's ids are 32 bits wide.
_LONGEST_JOB_ID = 10
_TASK_ENDED_BADLY = ("failed", "cancelled")


class MachineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The facility's word on one machine. `status` is active, degraded, unavailable, other, or a word not known yet."""

    name: str
    status: str
    description: str = ""
    notes: tuple[str, ...] = ()


class PlannedOutage(msgspec.Struct, frozen=True, kw_only=True):
    """A planned outage; instants in UTC. `status` as the facility writes it (Planned, Active, Cancelled, ...)."""

    name: str
    start_at: datetime
    end_at: datetime
    description: str = ""
    status: str = ""


class _Queue(msgspec.Struct):
    status: str
    output: list[dict[str, Any]] | None = None
    error: str | None = None


class _Task(msgspec.Struct):
    status: str
    result: Any = None


class _Posted(msgspec.Struct):
    status: str
    task_id: str | int | None = None
    error: str | None = None


class _Result(msgspec.Struct):
    status: str
    jobid: str | int | None = None
    error: str | None = None


class _Status(msgspec.Struct):
    name: str
    status: str
    description: str | None = None
    notes: list[str] | None = None


class _Outage(msgspec.Struct):
    name: str
    start_at: str
    end_at: str
    description: str | None = None
    status: str | None = None


def queue_rows(body: bytes, what: str) -> list[dict[str, Any]]:
    """The rows of a listing. Overloaded or Refused when the status inside is not OK, Malformed for another shape."""
    queue = decode(body, _Queue, what)
    if queue.status.upper() != "OK":
        _raise_by_text(queue.error or f"status {queue.status[:40]!r} without a text", what)
    if queue.output is None:
        raise Malformed(f"{what}: status OK without a list of rows")
    return queue.output


def posted_task(body: bytes, what: str) -> str | Refusal | Unclear:
    """The id of the task that a POST or DELETE started, or what its failure means. Malformed for another shape."""
    posted = decode(body, _Posted, what)
    if posted.status.upper() != "OK":
        return read_failure(posted.error or "")
    task_id = str(posted.task_id or "")
    if not task_id or not task_id.isascii() or not all(letter.isalnum() or letter in "-_" for letter in task_id):
        return Unclear(why=f"{what}: accepted, but the task id {task_id[:40]!r} is none")
    return task_id


def task_outcome(body: bytes, what: str, expected_job_id: str = "") -> Outcome | None:
    """What a task came to, None while it runs. Malformed for a body of another shape.

    A submission's result must name the job id; a cancel's may leave it out, then `expected_job_id` is given back.
    """
    task = decode(body, _Task, what)
    status = task.status.lower()
    if status in _TASK_ENDED_BADLY:
        text = _failure_text(task.result)
        return read_failure(text) if text else Unclear(why=f"{what}: the task {status} without a text")
    if status != "completed":
        return None
    return _completed(task.result, what, expected_job_id)


def _completed(raw: Any, what: str, expected_job_id: str) -> Outcome:
    if not isinstance(raw, str):
        return Unclear(why=f"{what}: the task completed without a result")
    try:
        result = msgspec.json.decode(raw, type=_Result)
    except (msgspec.DecodeError, UnicodeError):
        return Unclear(why=f"{what}: the task completed with an unreadable result {raw[:80]!r}")
    if result.status.lower() != "ok":
        return read_failure(result.error or "")
    job_id = expected_job_id or str(result.jobid if result.jobid is not None else "").strip()
    if expected_job_id or (job_id.isascii() and job_id.isdigit() and len(job_id) <= _LONGEST_JOB_ID):
        return Accepted(job_id=job_id)
    return Unclear(why=f"{what}: the task completed, but its job id {job_id[:40]!r} is not a number")


def machine_status(body: bytes, what: str) -> MachineStatus:
    """GET /status/{machine}. Malformed for another shape."""
    status = decode(body, _Status, what)
    return MachineStatus(
        name=status.name,
        status=status.status.lower(),
        description=status.description or "",
        notes=tuple(status.notes or ()),
    )


def planned_outages(body: bytes, what: str, zone: ZoneInfo) -> tuple[PlannedOutage, ...]:
    """GET /status/outages/planned/{machine}: a list, or (as without the name) a list of lists. Malformed else.

    An instant without a zone is the machine's local time.
    """
    raw = decode(body, list[_Outage | list[_Outage]], what)
    flat = [outage for item in raw for outage in (item if isinstance(item, list) else [item])]
    return tuple(
        PlannedOutage(
            name=outage.name,
            start_at=_instant(outage.start_at, zone, what),
            end_at=_instant(outage.end_at, zone, what),
            description=outage.description or "",
            status=outage.status or "",
        )
        for outage in flat
    )


def _instant(text: str, zone: ZoneInfo, what: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed(f"{what}: {text[:40]!r} is not an instant") from None


def _failure_text(result: Any) -> str:
    """The text of a failed task: its result's `error`, or the result itself."""
    if not isinstance(result, str):
        return "" if result is None else str(result)[:TEXT_LIMIT]
    try:
        decoded = msgspec.json.decode(result, type=_Result)
    except (msgspec.DecodeError, UnicodeError):
        return result
    return decoded.error or result


# Words of an ERROR answer to a read that no waiting mends.
_REFUSED_READS = ("permission denied", "not authorized", "not authenticated", "invalid user", "invalid field")


def _raise_by_text(text: str, what: str) -> NoReturn:
    if any(words in text.lower() for words in _REFUSED_READS):
        raise Refused(f"{what}: {text[:TEXT_LIMIT]}")
    raise Overloaded(f"{what}: {text[:TEXT_LIMIT]}")


def decode(body: bytes, kind: type[T], what: str) -> T:
    """A body of the API's as this type. Malformed when it is not JSON, or of another shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{what}: the answer is not what the API documents ({str(error)[:200]})") from None
