"""200 pilots to a real Slurm by local commands: ours, PSI/J's Slurm executor, COBalD/TARDIS.

The clock is slurmctld's own: from the call of the first submission to the last acceptance in its log. TARDIS counts
from its first acceptance to its last, which leaves out its start: its factory looks at the demand each 30 s.
Ours is one sbatch of a job array, theirs one sbatch for each pilot. Pilots are held, so that nothing but submission
happens. Calls are those that slurmctld counted (sdiag).
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import string
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.process_tree import Use, Watch
from tests.peer_venv import python_of
from tests.world.processes import REPOSITORY, start
from tests.world.slurm.cluster import missing_programs

PILOTS = 200
RUNS = 3
PEERS = REPOSITORY / "tests" / "bench" / "peers"
ACCEPTED = re.compile(r"^\[(?P<at>[^\]]+)\] _slurm_rpc_submit_batch_job: JobId=(?P<id>\d+)", re.MULTILINE)
# A run that takes longer has failed.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Run:
    """One contestant's run."""

    seconds: float
    sbatch_calls: int
    peak_processes: int
    cpu_s: float
    peak_rss_mb: float


class Slurm:
    """The real Slurm of this bench, with its log."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.account = str(ready["account"])
        self._user = str(ready["user"])
        self.environment = {**os.environ, **ready["environment"]}
        self._log = Path(ready["state"]) / "log" / "slurmctld.log"
        self._seen_bytes = 0

    def begin(self) -> None:
        """Forget what was before."""
        self._run("sdiag", "--reset")
        self._seen_bytes = self._log.stat().st_size

    def accepted_at(self) -> list[float]:
        """The unix time of each acceptance since `begin`."""
        with self._log.open() as file:
            file.seek(self._seen_bytes)
            return [datetime.fromisoformat(match["at"]).timestamp() for match in ACCEPTED.finditer(file.read())]

    def calls(self) -> int:
        """How many submissions slurmctld was asked for since `begin`."""
        match = re.search(r"REQUEST_SUBMIT_BATCH_JOB\s.*?count:(\d+)", self._run("sdiag"))
        return int(match[1]) if match else 0

    def pilots(self) -> int:
        """How many pilots wait."""
        return len(self._run("squeue", "-h", "-r", "-o", "%i").split())

    def clear(self) -> None:
        """Let no pilot wait."""
        self._run("scancel", f"--user={self._user}")
        until = time.monotonic() + PATIENCE_S
        while self.pilots():
            assert time.monotonic() < until, "pilots of an earlier run do not go away"
            time.sleep(0.2)

    def _run(self, *argv: str) -> str:
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=True).stdout


def ours(slurm: Slurm, folder: Path) -> Run:
    """Our local commands."""
    command = [sys.executable, "-m", "tests.bench.peers.nacre_session", str(PILOTS), slurm.account]
    return _to_its_end(slurm, command, folder, directory=REPOSITORY)


def psij(slurm: Slurm, folder: Path) -> Run:
    """PSI/J 0.9.11."""
    python = python_of("psij", PEERS / "psij.lock")
    return _to_its_end(slurm, [str(python), str(PEERS / "psij_session.py"), str(PILOTS), slurm.account], folder)


def tardis(slurm: Slurm, folder: Path) -> Run:
    """COBalD/TARDIS 0.9.0, as its daemon; ended once all its drones are accepted."""
    python = python_of("tardis", PEERS / "tardis.lock")
    script = folder / "pilot.sh"
    script.write_text("#!/bin/sh\nsleep 1\n")
    script.chmod(0o755)
    values = {
        "count": str(PILOTS),
        "account": slurm.account,
        "script": str(script),
        "tardis": str(folder / "tardis.yml"),
    }
    for name in ("tardis.yml", "cobald.yml"):
        (folder / name).write_text(string.Template((PEERS / name).read_text()).substitute(values))
    slurm.begin()
    with (folder / "tardis.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "cobald.daemon", str(folder / "cobald.yml")],
            env=slurm.environment | {"HOME": str(folder)}, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    watch = Watch(process.pid)
    try:
        until = time.monotonic() + PATIENCE_S
        while len(at := slurm.accepted_at()) < PILOTS:
            assert time.monotonic() < until, f"TARDIS submitted {len(at)} pilots only; see {folder}/tardis.log"
            time.sleep(0.05)
        use = watch.stop()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _run(max(at) - min(at), slurm, use)


def _to_its_end(slurm: Slurm, command: list[str], folder: Path, directory: Path | None = None) -> Run:
    """A contestant that ends when it has submitted; its first line says when it began."""
    slurm.begin()
    process = subprocess.Popen(
        command, env=slurm.environment | {"HOME": str(folder)}, cwd=directory or folder, stdout=subprocess.PIPE
    )
    watch = Watch(process.pid)
    assert process.stdout is not None
    began_at = float(process.stdout.readline())
    process.stdout.close()
    _, status, rusage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    use = watch.stop()
    assert process.returncode == 0, command
    use.cpu_s = rusage.ru_utime + rusage.ru_stime
    assert slurm.pilots() == PILOTS, f"{slurm.pilots()} pilots instead of {PILOTS}"
    return _run(max(slurm.accepted_at()) - began_at, slurm, use)


def _run(seconds: float, slurm: Slurm, use: Use) -> Run:
    return Run(round(seconds, 4), slurm.calls(), use.processes, round(use.cpu_s, 3), round(use.rss_bytes / 1e6, 1))


CONTESTANTS: dict[str, Callable[[Slurm, Path], Run]] = {"ours": ours, "psij": psij, "tardis": tardis}


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench: each peer's time over ours, run by run side by side; above 1 is the goal."""
    if missing := missing_programs():
        return {"submit_local_skipped": {"value": 0, "unit": f"missing: {missing[0]}", "goal": None, "runs": []}}
    runs: dict[str, list[Run]] = {name: [] for name in CONTESTANTS}
    with start("tests.world.slurm", "--state", str(folder / "slurm"), "--nodes", "4") as (_, ready):
        slurm = Slurm(ready)
        for number in range(RUNS):
            for name, contestant in CONTESTANTS.items():
                place = folder / f"{name}-{number}"
                place.mkdir(parents=True, exist_ok=True)
                runs[name].append(contestant(slurm, place))
                slurm.clear()
    (folder / "runs.json").write_text(json.dumps({n: [asdict(run) for run in of] for n, of in runs.items()}, indent=1))
    figures: dict[str, Any] = {}
    for peer in ("psij", "tardis"):
        ratios = [round(a.seconds / b.seconds, 1) for a, b in zip(runs[peer], runs["ours"], strict=True)]
        figures[f"submit_local_vs_{peer}"] = {
            "value": statistics.median(ratios), "unit": "times ours (at least)", "goal": 1, "runs": ratios,
        }  # fmt: skip
    for name, of in runs.items():
        for what, unit in {
            "seconds": "s", "sbatch_calls": "calls", "peak_processes": "processes", "cpu_s": "s", "peak_rss_mb": "MB",
        }.items():  # fmt: skip
            seen = [getattr(run, what) for run in of]
            figures[f"submit_local_{name}_{what}"] = {
                "value": statistics.median(seen), "unit": unit, "goal": None, "runs": seen,
            }  # fmt: skip
    return figures
