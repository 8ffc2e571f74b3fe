"""The API's tasks beyond one submission: how a command ended, and all tasks that still exist. Pure.

Source: https://api.nersc.gov/api/v1.2/openapi.json (Task, Tasks). A body of another shape is Malformed.
"""

from typing import Any

import msgspec

from libs.runtime.errors import Malformed
from libs.slurm import remote_line, replies
from libs.slurm.batch_queue import RecentTask
from libs.slurm.outcomes import TEXT_LIMIT, Outcome
from libs.slurm.replies import decode

_READS = frozenset({"squeue", "sacct"})


class CommandEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a command's task ended: what the command wrote, and what the API says went wrong (empty: nothing)."""

    output: str
    failure: str


class _Task(msgspec.Struct):
    status: str
    id: str | int | None = None
    result: Any = None


class _Tasks(msgspec.Struct):
    tasks: list[_Task]


class _Result(msgspec.Struct):
    status: str = ""
    output: str | None = None
    error: str | None = None


def command_end(body: bytes, what: str) -> CommandEnd | None:
    """What the task of a command came to, None while it runs."""
    return _command_end(decode(body, _Task, what))


def recent_tasks(body: bytes, what: str) -> tuple[RecentTask, ...]:
    """All tasks but those of commands that only read."""
    found = []
    for task in decode(body, _Tasks, what).tasks:
        said = _framed(task)
        if said is not None and said.step in _READS and said.exit_code == 0:
            continue
        outcome = remote_line.submission(said) if said is not None else _outcome(task, what)
        found.append(RecentTask(task_id=str(task.id), outcome=outcome))
    return tuple(found)


def _command_end(task: _Task) -> CommandEnd | None:
    status = task.status.lower()
    if status not in ("completed", "failed", "cancelled"):
        return None
    raw = task.result if isinstance(task.result, str) else ""
    try:
        result = msgspec.json.decode(raw, type=_Result)
    except (msgspec.DecodeError, UnicodeError):
        return CommandEnd(output="", failure=f"the task {status} with {raw[:TEXT_LIMIT]!r}")
    ok = status == "completed" and result.status.lower() == "ok"
    failure = "" if ok else (result.error or f"the task {status}, status {result.status!r}")[:TEXT_LIMIT]
    return CommandEnd(output=result.output or "", failure=failure)


def _framed(task: _Task) -> remote_line.RemoteSaid | None:
    end = _command_end(task)
    try:
        return remote_line.read_answer(end.output, "task") if end is not None and end.output else None
    except Malformed:
        return None


def _outcome(task: _Task, what: str) -> Outcome | None:
    return replies.task_outcome(msgspec.json.encode({"status": task.status, "result": task.result}), what)
