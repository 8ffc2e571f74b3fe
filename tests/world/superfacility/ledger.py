"""The world's own truth: one row for each batch job of every script that was accepted, joined with what Slurm says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.world.superfacility.arrays import parse_array
from tests.world.superfacility.batch_script import BatchOptions
from tests.world.superfacility.commands import Slurm

VOID_EXIT_CODE = 85
FORGOTTEN = "FORGOTTEN"
# How a CE marks what it submits: known by it also when it came by a command, past the jobs endpoint.
MARK = "nacre:name="
ACCEPTED_MAX = 100_000
# Instants as unix seconds, and lists of array tasks in full.
ASK_PLAINLY = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
    "REVOKED",
)  # fmt: skip

# A controller that forgets jobs gives their ids out again: the name is part of the key.
Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Accepted:
    """One sbatch call that Slurm acknowledged."""

    job_id: str
    name: str
    comment: str
    tasks: tuple[int, ...] | None
    submitted_at: float


@dataclass(frozen=True)
class Truth:
    """What squeue or sacct says of one batch job."""

    state: str
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    submitted_at: float | None = None
    comment: str = ""


class Ledger(Protocol):
    """Knows each batch job of every script that was accepted."""

    def accept(self, job_id: str, options: BatchOptions, *, default_name: str) -> None:
        """Write down a submission that Slurm has just acknowledged."""

    async def rows(self) -> list[dict[str, Any]]:
        """Return [{name, index, comment, job_id, submitted_at, started_at, ended_at, state, exit_code, void}].

        `job_id` is the one sbatch said. State FORGOTTEN: Slurm knows nothing of the whole batch any more.
        Raises RuntimeError when Slurm does not answer: an unknown ledger is not an empty one.
        """


class RealLedger:
    """What was accepted, joined with what a real Slurm says; kept in memory: a new process begins an empty one."""

    def __init__(self, slurm: Slurm, *, home: Path) -> None:
        self._slurm = slurm
        self._home = home
        self._accepted: list[Accepted] = []
        self._started_at = time.time()

    def accept(self, job_id: str, options: BatchOptions, *, default_name: str) -> None:
        """Write down a submission that Slurm has just acknowledged."""
        if len(self._accepted) >= ACCEPTED_MAX:
            raise RuntimeError(f"more than {ACCEPTED_MAX} submissions in one ledger")
        tasks = tuple(parse_array(options.get("array"))[0]) if "array" in options.values else None
        self._accepted.append(
            Accepted(job_id, options.get("job-name", default_name), options.get("comment"), tasks, time.time())
        )

    async def rows(self) -> list[dict[str, Any]]:
        """Return rows as Ledger says."""
        known = list(self._accepted)
        listed = _read_squeue(await self._ask("squeue", "-h", "-t", "all", "-o", "%F|%K|%T|%S|%e|%V|%j|%k"))
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self._started_at - 60))
        columns = "JobID,State,ExitCode,Start,End,Submit,JobName,Comment"
        recorded = _read_sacct(await self._ask("sacct", "-X", "-n", "-P", "-S", since, "-o", columns))
        batches = {key[:2] for key in (*listed, *recorded)}
        known += _by_command(recorded | listed, {(accepted.job_id, accepted.name) for accepted in known})
        return [
            _row(accepted, index, _truth((accepted.job_id, accepted.name, index), listed, recorded, batches))
            for accepted in known
            for index in (accepted.tasks if accepted.tasks is not None else (None,))
        ]

    async def _ask(self, *argv: str) -> str:
        answer = await self._slurm.run(argv, directory=self._home, environment=ASK_PLAINLY)
        if answer.exit_code != 0:
            raise RuntimeError(f"{argv[0]}: {answer.error.strip()}")
        return answer.output


def _by_command(found: dict[Key, Truth], known: set[tuple[str, str]]) -> list[Accepted]:
    """What bears a CE's mark and did not come by the jobs endpoint, with the array tasks that Slurm still shows."""
    tasks: dict[tuple[str, str], set[int]] = {}
    about: dict[tuple[str, str], Truth] = {}
    for (job_id, name, index), truth in found.items():
        if (job_id, name) not in known and (truth.comment + ",").startswith(f"{MARK}{name},"):
            about[job_id, name] = truth
            tasks.setdefault((job_id, name), set()).update(() if index is None else (index,))
    return [
        Accepted(key[0], key[1], truth.comment, tuple(sorted(tasks[key])) or None, truth.submitted_at or 0.0)
        for key, truth in about.items()
    ]


def _row(accepted: Accepted, index: int | None, truth: Truth) -> dict[str, Any]:
    return {
        "name": accepted.name,
        "index": index,
        "comment": accepted.comment,
        "job_id": accepted.job_id,
        "submitted_at": accepted.submitted_at,
        "started_at": truth.started_at,
        "ended_at": truth.ended_at,
        "state": truth.state,
        "exit_code": truth.exit_code,
        "void": truth.exit_code == VOID_EXIT_CODE,
    }


def _truth(key: Key, listed: dict[Key, Truth], recorded: dict[Key, Truth], batches: set[tuple[str, str]]) -> Truth:
    """sacct once it says ended, else squeue, else what sacct has.

    A task cancelled while it was pending may have no record of its own: the array's speaks for it.
    """
    of_array = (key[0], key[1], None)
    record = recorded.get(key) or recorded.get(of_array)
    if record is not None and record.state in ENDED:
        return record
    if key in listed:
        return listed[key]
    if record is not None:
        return record
    return Truth("CANCELLED" if key[:2] in batches else FORGOTTEN, None, None, None)


def _read_squeue(text: str) -> dict[Key, Truth]:
    found: dict[Key, Truth] = {}
    for line in text.splitlines():
        job_id, tasks, state, start, end, submit, text = line.split("|", 6)
        name, _, comment = text.rpartition("|")
        pending = state == "PENDING"
        truth = Truth(
            state,
            None if pending else _instant(start),
            _instant(end) if state in ENDED else None,
            None,
            _instant(submit),
            comment,
        )
        for index in _indexes(tasks):
            found[job_id, name, index] = truth
    return found


def _read_sacct(text: str) -> dict[Key, Truth]:
    """An array's record of what never started lists its tasks as it once was: a task's own record wins."""
    found: dict[Key, Truth] = {}
    shared: dict[Key, Truth] = {}
    for line in text.splitlines():
        label, state, code, start, end, submit, text = line.split("|", 6)
        name, _, comment = text.rpartition("|")
        job_id, _, tasks = label.partition("_")
        word = state.split(" ", 1)[0]
        ended = word in ENDED
        number, _, signal_number = code.partition(":")
        exit_code = int(number) or (128 + int(signal_number) if int(signal_number or 0) else 0)
        started_at = _instant(start)
        truth = Truth(
            word,
            started_at,
            _instant(end) if ended else None,
            exit_code if ended and started_at is not None else None,
            _instant(submit),
            comment,
        )
        for index in _indexes(tasks.strip("[]") or "N/A"):
            (shared if "[" in tasks else found)[job_id, name, index] = truth
    return {**shared, **found}


def _indexes(tasks: str) -> Sequence[int | None]:
    return (None,) if tasks == "N/A" else parse_array(tasks)[0]


def _instant(text: str) -> float | None:
    return float(text) if text.isdigit() else None
