"""The batch script: what Slurm reads, and what bash does with it."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from libs.runtime.site import Agent, Batch
from services.slurm_submitter.batch_script import NO_TOKEN_EXIT_CODE, VOID_EXIT_CODE, render, sbatch_lines, time_limit
from tests.unit.slurm_submitter.sites import NOW, a_ce, a_site, submission


def test_sbatch_lines() -> None:
    """Every line starts in column 0; name, comment, array, account, QOS, constraint and time limit are always there."""
    batch = Batch(
        account="m1",
        qos="regular",
        directory="/s",
        output="/s/%x.%a",
        licenses="cvmfs",
        extra_lines=["--signal=B:USR1@60"],
    )
    one = submission("nacre-cpu-1", agents=500, replaces="nacre-cpu-0")
    lines = sbatch_lines(one, a_ce(batch=batch))
    assert lines == [
        "#SBATCH -J nacre-cpu-1",
        "#SBATCH --comment=nacre:name=nacre-cpu-1,replaces=nacre-cpu-0",
        "#SBATCH --array=0-499",
        "#SBATCH -A m1",
        "#SBATCH -q regular",
        "#SBATCH -N 1",
        "#SBATCH -t 1-00:00:00",
        "#SBATCH -D /s",
        "#SBATCH -o /s/%x.%a",
        "#SBATCH -C cpu",
        "#SBATCH -L cvmfs",
        "#SBATCH --signal=B:USR1@60",
    ]
    bare = sbatch_lines(submission(), a_ce(batch=msgspec.structs.replace(batch, constraint="", licenses="")))
    assert not any(line.startswith(("#SBATCH -C", "#SBATCH -L")) for line in bare)
    assert "#SBATCH --comment=nacre:name=nacre-cpu-1,replaces=-" in bare


def test_time_limit() -> None:
    """Slurm's D-HH:MM:SS."""
    assert [time_limit(s) for s in (59, 3600, 86400 + 3661)] == ["0-00:00:59", "0-01:00:00", "1-01:01:01"]


@pytest.fixture
def shell(tmp_path: Path) -> "Shell":
    """Somewhere to run scripts, with a squeue that says what the test wants."""
    return Shell(tmp_path)


class Shell:
    """Runs a rendered script with bash, as Slurm would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = folder / "token.sh"
        self.token.write_text('export JALIEN_TOKEN_CERT="one\ntwo"\n')
        (folder / "bin").mkdir()

    def squeue(self, answer: str) -> None:
        program = self.folder / "bin/squeue"
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)

    def run(self, void_after_s: int, command: str = "true", **environment: str) -> subprocess.CompletedProcess[str]:
        directory = self.folder / "it's a dir"
        ce = a_ce(
            batch=Batch(account="m1", qos="regular", directory=str(directory), output="o"),
            agent=Agent(command=command, token_file=str(self.token), environment={"ODD": "a b'$c"}),
        )
        one = submission(void_after=NOW.fromtimestamp(void_after_s, tz=NOW.tzinfo))
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", render(one, ce, a_site())],
            env={"PATH": path, "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "TZ": "UTC"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


LATE, EARLY = 4_000_000_000, 1_000


def test_the_agent_runs_with_its_environment(shell: Shell) -> None:
    """Name, CE, relay, token and odd values arrive as meant; the exit code is the agent's; nothing is left behind."""
    done = shell.run(LATE, 'echo "$NACRE_AGENT|$CE|$APMON_CONFIG|$ODD|$JALIEN_TOKEN_CERT|$HOME"; pwd; exit 3')
    work = shell.folder / "it's a dir/nacre-cpu-1.1"
    assert done.returncode == 3
    assert done.stdout == f"nacre-cpu-1.1|ALICE::NERSC::cpu|relay.example.org:8884|a b'$c|one\ntwo|{work}\n{work}\n"
    assert not work.exists()


def test_void_by_slurms_submit_time(shell: Shell) -> None:
    """Submitted after void_after: ends with its own code. Submitted before: runs, however late it starts."""
    shell.squeue("echo 2026-11-23T12:00:00")
    assert shell.run(EARLY, "echo ran").returncode == VOID_EXIT_CODE
    shell.squeue("echo 1970-01-01T00:10:00")
    assert shell.run(EARLY, "echo ran").stdout == "ran\n"


def test_a_requeued_job_is_not_void(shell: Shell) -> None:
    """What Slurm itself requeues was checked when it first ran."""
    shell.squeue("echo 2026-11-23T12:00:00")
    assert shell.run(EARLY, "echo ran", SLURM_RESTART_COUNT="1").stdout == "ran\n"


def test_unknown_submit_time_is_void(shell: Shell) -> None:
    """When squeue never says when it was submitted, a late script does not run."""
    shell.squeue("exit 1")
    (shell.folder / "bin/sleep").write_text("#!/bin/sh\n")
    (shell.folder / "bin/sleep").chmod(0o755)
    done = shell.run(EARLY, "echo ran")
    assert (done.returncode, done.stdout) == (VOID_EXIT_CODE, "")
    assert "unknown instant" in done.stderr


def test_without_a_token_it_says_so(shell: Shell) -> None:
    """A missing token file has its own exit code and names the file."""
    shell.token.unlink()
    done = shell.run(LATE)
    assert done.returncode == NO_TOKEN_EXIT_CODE
    assert str(shell.token) in done.stderr
