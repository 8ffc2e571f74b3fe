"""Batch jobs behind the API: list, submit, cancel, and any other command."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.world.superfacility.batch_script import BatchOptions, OptionError, combine, parse_arguments, parse_script
from tests.world.superfacility.commands import Slurm
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


class Compute:
    """The compute endpoints' work, in terms of Slurm's commands."""

    def __init__(self, slurm: Slurm, ledger: Ledger, *, home: Path, cache_s: float) -> None:
        self._slurm = slurm
        self._ledger = ledger
        self._home = home
        self._cache_s = cache_s
        self._cache: dict[tuple[str, ...], tuple[float, dict[str, Any]]] = {}

    async def jobs(self, kwargs: Sequence[str], *, sacct: bool, cached: bool, index: int, limit: int) -> dict[str, Any]:
        """Return {"status", "output": [row], "error"}; `limit` 0 is no limit."""
        allowed = SACCT_KWARGS if sacct else SQUEUE_KWARGS
        argv = ["sacct", "-P", "-o", "ALL"] if sacct else ["squeue", "-o", "%all"]
        for word in kwargs:
            name, equals, value = word.partition("=")
            if not equals or name not in allowed or not value or value.startswith("-"):
                return _refused(f"invalid argument: {word}")
            argv.append(f"{allowed[name]}={value}")
        answer = await self._listing(tuple(argv), cached=cached)
        if index or limit:
            rows = answer["output"][index : index + limit if limit else None]
            return {**answer, "output": rows}
        return answer

    async def _listing(self, argv: tuple[str, ...], *, cached: bool) -> dict[str, Any]:
        now = time.monotonic()
        known = self._cache.get(argv)
        if cached and known is not None and now - known[0] < self._cache_s:
            return known[1]
        said = await self._slurm.run(argv, directory=self._home)
        if said.exit_code != 0:
            return _refused(said.error.strip())
        answer = {"status": "OK", "output": read_rows(said.output), "error": None}
        if self._cache_s > 0:
            if len(self._cache) >= CACHE_ENTRIES_MAX:
                self._cache.clear()
            self._cache[argv] = (now, answer)
        return answer

    async def submit(self, job: str, *, is_path: bool, args: Sequence[str]) -> dict[str, Any]:
        """Run sbatch; returns the task's result {"status", "jobid", "error"}."""
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
        said = await self._slurm.run(["bash", "-lc", executable], directory=self._home)
        ok = said.exit_code == 0
        words = shlex.split(executable, posix=False)[:1]
        return {
            "status": "ok" if ok else "error", "output": said.output, "exit_code": said.exit_code,
            "error": None if ok else said.error or f"{' '.join(words)}: exit code {said.exit_code}",
        }  # fmt: skip

    def _read(self, path: str) -> str:
        try:
            return (self._home / path).read_text()
        except OSError:
            return ""


def read_rows(text: str) -> list[dict[str, str]]:
    """Return a `|` table as rows by lower-cased header; of two columns with one header the last stays."""
    lines = text.splitlines()
    if not lines:
        return []
    header = [name.lower() for name in lines[0].split("|")]
    return [dict(zip(header, line.split("|"), strict=False)) for line in lines[1:]]


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


def _refused(text: str) -> dict[str, Any]:
    return {"status": "ERROR", "output": [], "error": text}
