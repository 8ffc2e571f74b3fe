"""The model as the facility sees it: Slurm's commands, answered in this process."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.superfacility.commands import WHOLE, Answer, Pieces, run_process
from tests.world.superfacility.model import runner
from tests.world.superfacility.model.accounting import Accounting
from tests.world.superfacility.model.clock import Clock
from tests.world.superfacility.model.control import scancel, scontrol, sinfo
from tests.world.superfacility.model.controller import Controller, Pace
from tests.world.superfacility.model.limits import SUBMIT_LIMIT, qos_table
from tests.world.superfacility.model.nodes import Nodes, Size
from tests.world.superfacility.model.programs import PROGRAMS, serve_programs
from tests.world.superfacility.model.runner import Processes
from tests.world.superfacility.model.sacct import sacct
from tests.world.superfacility.model.sbatch import sbatch
from tests.world.superfacility.model.squeue import squeue, squeue_objects
from tests.world.superfacility.model.synthetic import DEFAULT_RUN_S, Synthetic
from tests.world.superfacility.model.troubles import Troubles

# Events of one go, so that requests are answered in between.
EVENTS_PER_GO = 2000
# The shortest sleep between two goes: events closer together than this happen in one go.
REST_S = 0.005


@dataclass(frozen=True)
class Options:
    """What the model is; seconds are model seconds."""

    size: Size
    account: str
    speed: float = 1.0
    synthetic: bool = False
    run_s: float = DEFAULT_RUN_S
    submit_limit: int = SUBMIT_LIMIT
    pace: Pace = field(default_factory=Pace)
    node_failures_s: float = 0.0
    repair_s: float = 600.0
    seed: int = 0


class ModelSlurm:
    """A Slurm (see commands.Slurm) of whole nodes; `environment` goes to every command and every job."""

    def __init__(self, state: Path, options: Options, *, environment: Mapping[str, str], home: Path) -> None:
        self._state = state.resolve()
        self._bin = self._state / "bin"
        self._home = home
        self._environment = {**environment, "PATH": f"{self._bin}:{os.environ.get('PATH', '')}"}
        self.controller = Controller(
            Clock(options.speed),
            Nodes(options.size),
            qos_table(options.submit_limit),
            account=options.account,
            pace=options.pace,
        )
        self._accounting = Accounting(self.controller)
        self.troubles = Troubles(
            self.controller,
            node_failures_s=options.node_failures_s,
            repair_s=options.repair_s,
            seed=options.seed,
        )
        self._launch: Synthetic | Processes
        if options.synthetic:
            self._launch = Synthetic(self.controller, run_s=options.run_s)
        else:
            self._launch = Processes(self.controller, state=self._state, environment=self._environment)
        self.controller.launch = self._launch
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None

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
        self.controller.on_change = self._changed.set
        self._driver = asyncio.create_task(self._drive())

    async def run(
        self, argv: Sequence[str], *, directory: Path, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer Slurm's commands here; run anything else as a process."""
        full = {**os.environ, **self._environment, **(environment or {})}
        if argv[0] in PROGRAMS:
            return await self._answer(argv, directory, stdin, full)
        return await run_process(argv, directory=directory, stdin=stdin, environment=full)

    async def listing(self, argv: Sequence[str], *, directory: Path, page: slice = WHOLE) -> list[Pieces] | Answer:
        """Return a page of a whole-width listing as JSON objects, or what the command said instead."""
        self.controller.advance()
        if away := self.troubles.away(argv[0]):
            return Answer(1, "", away)
        if argv[0] == "sacct":
            return self._accounting.objects(argv[1:], page)
        return squeue_objects(self.controller, argv[1:], page, lag_s=self.controller.pace.squeue_lag_s)

    async def close(self) -> None:
        """End every job and the programs' port."""
        if self._driver is not None:
            self._driver.cancel()
        await self._launch.close()
        if self._server is not None:
            self._server.close()

    async def _drive(self) -> None:
        while True:
            next_at = self.controller.advance(EVENTS_PER_GO)
            self._changed.clear()
            wait_s = None if next_at is None else (next_at - self.controller.clock.now()) / self.controller.clock.speed
            if wait_s is not None and wait_s <= 0:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(None if wait_s is None else max(wait_s, REST_S)):
                    await self._changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(REST_S)

    async def _answer(self, argv: Sequence[str], directory: Path, stdin: str, environment: Mapping[str, str]) -> Answer:
        program, words, controller = argv[0], argv[1:], self.controller
        controller.advance()
        if away := self.troubles.away(program):
            return Answer(1, "", away)
        if program == "sbatch":
            return sbatch(controller, self.troubles, words, directory=directory, stdin=stdin, environment=environment)
        if program == "squeue":
            # A job asks slurmctld itself; what lags is the view from outside.
            lag_s = 0.0 if "SLURM_JOB_ID" in environment else controller.pace.squeue_lag_s
            return squeue(controller, words, environment, lag_s=lag_s)
        if program == "sacct":
            return sacct(controller, words, environment)
        if program == "scancel":
            return scancel(controller, words)
        if program == "scontrol":
            return scontrol(controller, self.troubles, words, environment)
        if program == "sinfo":
            return sinfo(controller, words)
        return Answer(127, "", f"{program}: command not found\n")
