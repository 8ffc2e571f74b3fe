"""The world's real Slurm starts, stops and cleans up after itself, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract.superfacility_session import eventually
from tests.world import processes
from tests.world.slurm.cluster import missing_programs
from tests.world.slurm.leftovers import processes_of

MODULE = "tests.world.slurm"
needs_slurm = pytest.mark.skipif(bool(missing_programs()), reason=f"no real Slurm: {' '.join(missing_programs())}")
pytestmark = pytest.mark.timeout(180)


def run(environment: dict[str, str], *argv: str) -> str:
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def ping(environment: dict[str, str]) -> str:
    """What `scontrol ping` says, whatever its exit code."""
    done = subprocess.run(["scontrol", "ping"], env={**os.environ, **environment}, capture_output=True, check=False)
    return done.stdout.decode()


def test_check_says_what_is_missing() -> None:
    """`--check` exits 0 when a real Slurm is installed, else names what is missing and exits 2."""
    done = subprocess.run([sys.executable, "-m", MODULE, "--check"], capture_output=True, text=True, check=False)
    missing = missing_programs()
    assert done.returncode == (2 if missing else 0)
    assert all(name in done.stderr for name in missing)


@pytest.mark.slurm
@needs_slurm
def test_two_at_once_and_nothing_left(tmp_path: Path) -> None:
    """Two instances share nothing; after SIGTERM with running jobs no daemon, job or database is left."""
    first, second = tmp_path / "first", tmp_path / ("a-very-long-name-" * 5)
    with (
        processes.start(MODULE, "--state", str(first), "--nodes", "1") as (_, one),
        processes.start(MODULE, "--state", str(second), "--nodes", "2") as (process, two),
    ):
        submit = ("sbatch", "--parsable", "-q", "regular", "-o", "/dev/null", "--wrap", "trap '' TERM; sleep 600")
        assert [run(ready["environment"], *submit) for ready in (one, two)] == ["1", "1"]
        for ready in (one, two):
            eventually(lambda ready=ready: run(ready["environment"], "squeue", "-h", "-o", "%t") == "R")  # type: ignore[misc]
        assert len(run(two["environment"], "sinfo", "-h", "-N").splitlines()) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert processes_of(first) == processes_of(second) == []
    assert [path.name for path in first.iterdir()] == ["log"]


@pytest.mark.slurm
@needs_slurm
def test_a_killed_run_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    """After a crash of slurmctld (SIGUSR1) and kill -9 the same directory starts again, with none of the old."""
    with processes.start(MODULE, "--state", str(tmp_path / "s"), "--nodes", "1") as (process, ready):
        daemons = set(processes_of(tmp_path / "s"))
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: daemons - set(processes_of(tmp_path / "s")) and "UP" in ping(ready["environment"]))
        run(ready["environment"], "sbatch", "-q", "regular", "-o", "/dev/null", "--wrap", "sleep 600")
        eventually(lambda: run(ready["environment"], "squeue", "-h", "-o", "%t") == "R")
        process.kill()
        process.wait()
    left = set(processes_of(tmp_path / "s"))
    assert left
    with processes.start(MODULE, "--state", str(tmp_path / "s"), "--nodes", "1") as (_, ready):
        assert run(ready["environment"], "squeue", "-h") == ""
        assert not left & set(processes_of(tmp_path / "s"))


@pytest.mark.slurm
@needs_slurm
@pytest.mark.parametrize("after_s", [0.5, 1.2])
def test_stopped_half_way_leaves_nothing(tmp_path: Path, after_s: float) -> None:
    """SIGTERM while it starts ends everything that had started."""
    process = processes.launch(MODULE, "--state", str(tmp_path), "--nodes", "1")
    time.sleep(after_s)
    assert processes.stop(process) == 0
    assert processes_of(tmp_path) == []
