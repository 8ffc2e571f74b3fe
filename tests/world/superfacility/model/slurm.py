"""The model as the facility sees it: Slurm's commands, answered in this process."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.world.superfacility.commands import Answer, run_process
from tests.world.superfacility.model import runner
from tests.world.superfacility.model.control import scancel, scontrol
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.programs import PROGRAMS, serve_programs
from tests.world.superfacility.model.sacct import sacct
from tests.world.superfacility.model.sbatch import sbatch
from tests.world.superfacility.model.squeue import squeue


class ModelSlurm:
    """A Slurm (see commands.Slurm) of whole nodes; `environment` goes to every command and every job."""

    def __init__(
        self, state: Path, *, nodes: int, cpus: int, account: str, environment: Mapping[str, str], home: Path
    ) -> None:
        self._state = state.resolve()
        self._bin = self._state / "bin"
        self._home = home
        self._environment = {**environment, "PATH": f"{self._bin}:{os.environ.get('PATH', '')}"}
        # Job ids of another run must not name anything here.
        self.controller = Controller(
            state=self._state,
            nodes=nodes,
            cpus=cpus,
            account=account,
            user=getpass.getuser(),
            environment=dict(self._environment),
        )
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Clear what a killed run left behind, and begin."""
        found = runner.kill_leftovers(self._state)
        if found:
            print(f"killed {found} processes of an earlier run in {self._state}", file=sys.stderr)
        shutil.rmtree(self._state / "spool", ignore_errors=True)
        self._state.mkdir(parents=True, exist_ok=True)
        # A login shell resets PATH by /etc/profile; the user's own profile puts the programs back.
        (self._home / ".bash_profile").write_text(f'export PATH="{self._bin}:$PATH"\n')
        self._server = await serve_programs(self._bin, self._answer)
        self.controller.start()

    async def run(
        self, argv: Sequence[str], *, directory: Path, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer Slurm's commands here; run anything else as a process."""
        full = {**os.environ, **self._environment, **(environment or {})}
        if argv[0] in PROGRAMS:
            return await self._answer(argv, directory, stdin, full)
        return await run_process(argv, directory=directory, stdin=stdin, environment=full)

    async def close(self) -> None:
        """End every job and the programs' port."""
        await self.controller.close()
        if self._server is not None:
            self._server.close()

    async def _answer(self, argv: Sequence[str], directory: Path, stdin: str, environment: Mapping[str, str]) -> Answer:
        program, words = argv[0], argv[1:]
        if program == "sbatch":
            return sbatch(self.controller, words, directory=directory, stdin=stdin, environment=environment)
        if program == "squeue":
            return squeue(self.controller, words, environment)
        if program == "sacct":
            return sacct(self.controller, words, environment)
        if program == "scancel":
            return scancel(self.controller, words)
        if program == "scontrol":
            return scontrol(self.controller, words, environment)
        return Answer(127, "", f"{program}: command not found\n")
