"""Exactly one batch job per job agent, whatever is killed, stopped, lost or late: `make crash AGENTS= SEED=`.

Real services (submitter and tracker twice), nats-server, the central services, and the Superfacility API over the model
Slurm with synthetic jobs (or a real one). For a while everything goes wrong as the seed's plan says; then it is calm,
and within a bounded time each of the agents that the grid jobs ask for must have exactly one live batch job. The last
line is one JSON object, counted from the world's ledger alone; the exit code is 0 only when it is good.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from tests.e2e.crash.grid_jobs import GridJobs
from tests.e2e.crash.pace import Pace
from tests.e2e.crash.plan import LOSE_STORE, Plan, draw, longest_delay_s
from tests.e2e.crash.stage import Stage, standing
from tests.e2e.crash.verdict import verdict
from tests.world.processes import REPOSITORY

BUILD = REPOSITORY / "build"
STEP_S = 0.05
SAID_EVERY_S = 2.0
console = Console()


class Run:
    """One run on a stage; `now_s` is seconds since it began."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.stage = stage
        self.plan = plan
        self.pace = stage.pace
        self.grid_jobs = GridJobs(stage.house)
        self.verdict = verdict([], (), intended=self.pace.agents, seed=plan.seed)
        self.last_accepted_at = 0.0
        self._began_s = time.monotonic()
        self._looked_s = self._said_s = 0.0
        self._running = 0

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began_s

    def storm(self) -> None:
        """Grid jobs and faults as the plan says, until all of them have happened, or will not within the patience."""
        faults, waves = list(self.plan.faults), list(self.plan.waves)
        end_s = self.pace.faults_s + self.pace.patience_s
        while faults or waves or self.stage.busy or (self.stage.armed() and self.now_s < end_s):
            while waves and waves[0][0] <= self.now_s:
                self.grid_jobs.add(waves.pop(0)[1])
            while faults and faults[0].at_s <= self.now_s:
                self._say(f"[yellow]{faults[0].words}[/yellow]")
                self.stage.do(faults.pop(0))
            self._step("faults")

    def calm(self) -> None:
        """Nothing more goes wrong: wait until all is well and nothing can come any more, at most the patience."""
        left = self.stage.calm()
        if left:
            self._say(f"did not happen: {', '.join(sorted(row['kind'] for row in left))}")
        calm_s = self.now_s
        while self.now_s - calm_s < self.pace.patience_s:
            self._step("calm")
            late_s = calm_s + longest_delay_s(self.plan) + 1
            if self.verdict.good and self.now_s > late_s and time.time() > self.last_accepted_at + self._quiet_s:
                return

    @property
    def _quiet_s(self) -> float:
        """After so long nothing that was once unclear can change any more."""
        return self.pace.settle_time_s + self.pace.listing_lag_s + 4 * self.pace.turn_s

    def _step(self, phase: str) -> None:
        self.stage.step(self.now_s)
        if self.now_s - self._looked_s >= self.pace.look_s:
            self._look()
            self._looked_s = self.now_s
        if self.now_s - self._said_s >= SAID_EVERY_S:
            found = self.verdict
            self._say(
                f"{phase}: {found.live_or_finished} of {found.intended} agents live, {self._running} at work, "
                f"{found.doubled} doubled"
            )
            self._said_s = self.now_s
        time.sleep(STEP_S)

    def _look(self) -> None:
        rows: list[dict[str, Any]] = self.stage.house.facility("/ledger")
        ours = [row for row in rows if row["name"] not in self.stage.strangers]
        self.grid_jobs.follow(ours)
        self.verdict = verdict(rows, self.stage.strangers, intended=self.pace.agents, seed=self.plan.seed)
        self.last_accepted_at = max([row["submitted_at"] for row in ours], default=0.0)
        self._running = sum(row["state"] == "RUNNING" for row in ours)

    def _say(self, text: str) -> None:
        console.print(f"{self.now_s:6.1f} s  {text}", highlight=False, soft_wrap=True)


def crash(seed: int, agents: int, folder: Path, *, slurm: str = "model", without: frozenset[str] = frozenset()) -> Run:
    """One whole run; its `verdict` is what the world's ledger says at the end."""
    pace = Pace(agents)
    plan = draw(seed, pace, without=without)
    console.print(f"{agents} agents, seed {seed}, {slurm} Slurm, logs in {folder}/logs", soft_wrap=True)
    with standing(folder, slurm, pace) as stage:
        run = Run(stage, plan)
        run.storm()
        run.calm()
    for line in stage.ended_by_themselves:
        console.print(f"[red]{line}[/red]")
    return run


def main() -> int:
    """Command line of `make crash`."""
    parser = argparse.ArgumentParser(
        prog="make crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slurm", choices=["model", "real"], default="model")
    parser.add_argument("--folder", type=Path, default=BUILD / "crash", help="state and logs")
    parser.add_argument("--without", action="append", default=[], metavar="KIND", help=f"such as {LOSE_STORE}")
    options = parser.parse_args()
    # Whoever starts us in the background may have told us to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run = crash(
            options.seed,
            options.agents,
            options.folder.resolve(),
            slurm=options.slurm,
            without=frozenset(options.without),
        )
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    sys.stdout.write(msgspec.json.encode(run.verdict).decode() + "\n")
    return 0 if run.verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
