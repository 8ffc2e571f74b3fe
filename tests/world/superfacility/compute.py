"""Batch jobs behind the API: list, submit, cancel, and any other command."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.world.superfacility.batch_script import BatchOptions, OptionError, combine, parse_arguments, parse_script
from tests.world.superfacility.commands import Answer, Pieces, Slurm
from tests.world.superfacility.ledger import Ledger

# `kwargs` that become an option of the command; others are refused.
SQUEUE_KWARGS = {
    "jobid": "--jobs", "jobs": "--jobs", "user": "--user", "account": "--account", "name": "--name", "qos": "--qos",
    "partition": "--partition", "state": "--states", "states": "--states", "nodelist": "--nodelist",
}  # fmt: skip
SACCT_KWARGS = {
    "jobid": "--jobs", "jobs": "--jobs", "user": "--user", "account": "--accounts", "accounts": "--accounts",
    "name": "--name", "qos": "--qos", "partition": "--partition", "state": "--state", "states": "--state",
    "nodelist": "--nodelist", "starttime": "--starttime", "endtime": "--endtime",
}  # fmt: skip
CACHE_ENTRIES_MAX = 100
SQUEUE = ("squeue", "-o", "%all")
SACCT = ("sacct", "-P", "-o", "ALL")
SNAPSHOT_S = 2 * 86_400
SNAPSHOT_COLUMNS = {
    "jobid": ("jobid", "array_job_id", "jobidraw"), "jobs": ("jobid", "array_job_id", "jobidraw"), "user": ("user",),
    "name": ("name", "jobname"), "account": ("account",), "accounts": ("account",), "qos": ("qos",),
    "partition": ("partition",), "state": ("state", "st"), "states": ("state", "st"),
}  # fmt: skip


@dataclass(frozen=True)
class JobsAsked:
    """One listing's parameters."""

    kwargs: tuple[str, ...] = ()
    sacct: bool = False
    cached: bool = True
    index: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Snapshot:
    """Both listings as they once were."""

    queued: list[Pieces]
    recorded: list[Pieces]

    def rows(self, asked: JobsAsked) -> list[Pieces]:
        """Return those rows that the parameters choose."""
        rows = self.recorded if asked.sacct else self.queued
        for word in asked.kwargs:
            name, _, value = word.partition("=")
            if columns := SNAPSHOT_COLUMNS.get(name):
                wanted = value.split(",")
                rows = [row for row in rows if _has(json.loads(b"".join(row)), columns, wanted)]
        return rows


def _has(row: dict[str, str], columns: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(row.get(column, "").split(" ")[0] in wanted for column in columns)


class Compute:
    """The compute endpoints' work, in terms of Slurm's commands."""

    def __init__(self, slurm: Slurm, ledger: Ledger, *, home: Path, cache_s: float) -> None:
        self._slurm = slurm
        self._ledger = ledger
        self._home = home
        self._cache_s = cache_s
        self._cache: dict[tuple[str, ...], tuple[float, list[Pieces]]] = {}

    async def jobs(self, asked: JobsAsked, *, as_of: Snapshot | None = None) -> list[Pieces] | Answer:
        """Return a listing's rows, or what was said instead; `limit` 0 is no limit.

        `as_of` answers from rows that were taken earlier, as a cache that was not refreshed.
        """
        allowed = SACCT_KWARGS if asked.sacct else SQUEUE_KWARGS
        words: list[str] = []
        for word in asked.kwargs:
            name, equals, value = word.partition("=")
            if not equals or name not in allowed or not value or value.startswith("-") or "\0" in value:
                return Answer(1, "", f"invalid argument: {word}")
            words.append(f"{allowed[name]}={value}")
        page = slice(asked.index, asked.index + asked.limit if asked.limit else None)
        if as_of is not None:
            return as_of.rows(asked)[page]
        base = SACCT if asked.sacct else SQUEUE
        return await self._listing((*base, *words), page, cached=asked.cached)

    async def snapshot(self) -> Snapshot:
        """Take both listings now, to answer from them later."""
        queued = await self._slurm.listing(SQUEUE, directory=self._home)
        since = time.strftime("--starttime=%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - SNAPSHOT_S))
        recorded = await self._slurm.listing((*SACCT, since), directory=self._home)
        return Snapshot([] if isinstance(queued, Answer) else queued, [] if isinstance(recorded, Answer) else recorded)

    async def _listing(self, argv: tuple[str, ...], page: slice, *, cached: bool) -> list[Pieces] | Answer:
        if self._cache_s <= 0 or not cached:
            return await self._slurm.listing(argv, directory=self._home, page=page)
        now = time.monotonic()
        known = self._cache.get(argv)
        if known is not None and now - known[0] < self._cache_s:
            return known[1][page]
        rows = await self._slurm.listing(argv, directory=self._home)
        if isinstance(rows, Answer):
            return rows
        if len(self._cache) >= CACHE_ENTRIES_MAX:
            self._cache.clear()
        self._cache[argv] = (now, rows)
        return rows[page]

    async def submit(self, job: str, *, is_path: bool, args: Sequence[str]) -> dict[str, Any]:
        """Run sbatch; returns the task's result {"status", "jobid", "error"}."""
        if "\0" in job or any("\0" in word for word in args):
            return {"status": "error", "jobid": None, "error": "sbatch: error: NUL in a script or an argument"}
        if is_path:
            said = await self._slurm.run(["sbatch", job, *args], directory=self._home)
        else:
            said = await self._slurm.run(["sbatch"], directory=self._home, stdin=job)
        accepted = re.search(r"Submitted batch job (\d+)", said.output)
        if said.exit_code != 0 or accepted is None:
            return {"status": "error", "jobid": None, "error": said.error.strip() or said.output.strip()}
        script = self._read(job) if is_path else job
        self._ledger.accept(accepted[1], _options(script), default_name=Path(job).name if is_path else "sbatch")
        return {"status": "ok", "jobid": accepted[1], "error": None}

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Run scancel; returns the task's result."""
        said = await self._slurm.run(["scancel", job_id], directory=self._home)
        ok = said.exit_code == 0
        return {
            "status": "ok" if ok else "error", "output": said.output, "error": None if ok else said.error.strip(),
            "exit_code": said.exit_code,
        }  # fmt: skip

    async def command(self, executable: str) -> dict[str, Any]:
        """Run a login shell's line; returns the task's result {"status", "output", "error", "exit_code"}."""
        if "\0" in executable:
            return {"status": "error", "output": "", "exit_code": 1, "error": "invalid argument: NUL in a command"}
        said = await self._slurm.run(["bash", "-lc", executable], directory=self._home)
        ok = said.exit_code == 0
        words = executable.split()[:1]
        return {
            "status": "ok" if ok else "error", "output": said.output, "exit_code": said.exit_code,
            "error": None if ok else said.error or f"{' '.join(words)}: exit code {said.exit_code}",
        }  # fmt: skip

    def _read(self, path: str) -> str:
        try:
            return (self._home / path).read_text()
        except (OSError, ValueError):
            return ""


def _options(script: str) -> BatchOptions:
    try:
        return combine(parse_script(script), BatchOptions())
    except OptionError:
        # The real sbatch knows options that we do not: read the lines that matter here.
        lines = [
            line for line in script.splitlines() if re.match(r"#SBATCH\s+(-J|-a|--job-name|--array|--comment)\b", line)
        ]
        words = [word for line in lines for word in shlex.split(line.removeprefix("#SBATCH"), comments=True)]
        return parse_arguments(words)
