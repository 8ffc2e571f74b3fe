"""How the facility runs a Slurm command: as a process (a real Slurm) or in process (the model)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

COMMAND_TIMEOUT_S = 60.0
OUTPUT_MAX_BYTES = 64 * 1024 * 1024
WHOLE = slice(None)
# One row of a listing: the pieces of its JSON object. Rows that are alike share most of theirs.
Pieces = tuple[bytes, ...]


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    exit_code: int
    output: str
    error: str


class Slurm(Protocol):
    """Runs sbatch, squeue, sacct, scancel and scontrol, and any other command with these on its PATH."""

    async def run(
        self, argv: Sequence[str], *, directory: Path, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run one command in `directory`; `environment` is added to the facility's own."""

    async def listing(self, argv: Sequence[str], *, directory: Path, page: slice = WHOLE) -> list[Pieces] | Answer:
        """Return a page of `squeue -o %all ...` or `sacct -P -o ALL ...` as JSON objects by lower-cased header.

        An Answer is what the command said when it failed.
        """

    async def close(self) -> None:
        """End what still runs on behalf of this Slurm."""


class RealSlurm:
    """The commands of the Slurm that this process's environment (PATH, SLURM_CONF) points to."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    async def run(
        self, argv: Sequence[str], *, directory: Path, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run the command as a process."""
        full = {**os.environ, **self._environment, **(environment or {})}
        return await run_process(argv, directory=directory, stdin=stdin, environment=full)

    async def listing(self, argv: Sequence[str], *, directory: Path, page: slice = WHOLE) -> list[Pieces] | Answer:
        """Run the command and read its table."""
        said = await self.run(argv, directory=directory)
        lines = said.output.splitlines()
        if said.exit_code != 0:
            return said
        return [as_object(row) for row in read_rows(lines[0].split("|"), lines[1:][page])] if lines else []

    async def close(self) -> None:
        """Leave the real Slurm alone: its own program stops it."""


async def run_process(argv: Sequence[str], *, directory: Path, stdin: str, environment: Mapping[str, str]) -> Answer:
    """Run a process in a session of its own; ends it after COMMAND_TIMEOUT_S."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=directory,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Answer(127, "", f"{argv[0]}: {error.strerror}")
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            output, error_text = await process.communicate(stdin.encode())
    except (TimeoutError, asyncio.CancelledError) as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return Answer(124, "", f"{argv[0]}: no answer within {COMMAND_TIMEOUT_S:g} s")
    code = process.returncode if process.returncode is not None else 1
    return Answer(code, output[:OUTPUT_MAX_BYTES].decode(errors="replace"), error_text.decode(errors="replace"))


def read_rows(headers: Sequence[str], lines: Sequence[str]) -> list[dict[str, str]]:
    """Return a `|` table as rows by lower-cased header; of two columns with one header the last stays."""
    names = [name.lower() for name in headers]
    return [dict(zip(names, line.split("|"), strict=False)) for line in lines]


def as_object(row: Mapping[str, str]) -> Pieces:
    """Return a row as a JSON object, without blanks as the API writes it."""
    return (json.dumps(row, separators=(",", ":")).encode(),)
