"""Run a batch job's script as a local process in a process group of its own, and end it as Slurm would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.world.superfacility.model.jobs import Element

LAUNCH_FAILED_SIGNAL = 53
STATE_MARK = "NACRE_MODEL_SLURM_STATE"


def fill_pattern(pattern: str, element: Element) -> Path:
    """Return the file that `-o` or `-e` names; `%A %a %j %x %N %u %%` as in sbatch's manual."""
    values = {
        "A": str(element.batch.job_id),
        "a": "4294967294" if element.index is None else str(element.index),
        "j": str(element.raw_id),
        "x": element.batch.name,
        "N": element.nodes[0] if element.nodes else "",
        "u": element.batch.user,
        "%": "%",
    }
    filled, rest = "", pattern
    while rest:
        before, percent, rest = rest.partition("%")
        filled += before
        if percent:
            filled += values.get(rest[:1], "%" + rest[:1])
            rest = rest[1:]
    return element.batch.directory / filled


def job_environment(element: Element, *, cpus: int) -> dict[str, str]:
    """Return the variables that Slurm gives to a batch script."""
    batch = element.batch
    nodes = ",".join(element.nodes)
    variables = {
        "SLURM_JOB_ID": str(element.raw_id),
        "SLURM_JOBID": str(element.raw_id),
        "SLURM_JOB_NAME": batch.name,
        "SLURM_JOB_ACCOUNT": batch.account,
        "SLURM_JOB_QOS": batch.qos,
        "SLURM_JOB_PARTITION": batch.partition,
        "SLURM_JOB_USER": batch.user,
        "SLURM_JOB_UID": str(batch.uid),
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_NODELIST": nodes,
        "SLURM_JOB_NUM_NODES": str(batch.nodes),
        "SLURM_NNODES": str(batch.nodes),
        "SLURM_CPUS_ON_NODE": str(cpus),
        "SLURM_JOB_CPUS_PER_NODE": str(cpus),
        "SLURMD_NODENAME": element.nodes[0],
        "SLURM_SUBMIT_DIR": str(batch.directory),
        "SLURM_CLUSTER_NAME": "perlmutter",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
        "SLURM_LOCALID": "0",
    }
    if batch.tasks is not None:
        variables |= {
            "SLURM_ARRAY_JOB_ID": str(batch.job_id),
            "SLURM_ARRAY_TASK_ID": str(element.index),
            "SLURM_ARRAY_TASK_COUNT": str(len(batch.tasks)),
            "SLURM_ARRAY_TASK_MIN": str(batch.tasks[0]),
            "SLURM_ARRAY_TASK_MAX": str(batch.tasks[-1]),
        }
    return variables


async def run_script(element: Element, *, spool: Path, environment: Mapping[str, str]) -> tuple[int, int]:
    """Run to the end; returns (exit code, signal) as Slurm counts them."""
    batch = element.batch
    folder = spool / f"job{element.raw_id}"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "slurm_script"
    script.write_text(batch.script)
    script.chmod(0o700)
    try:
        with contextlib.ExitStack() as files:
            output = files.enter_context(fill_pattern(batch.output, element).open("wb"))
            error = files.enter_context(fill_pattern(batch.error, element).open("wb")) if batch.error else output
            element.process = await asyncio.create_subprocess_exec(
                script,
                *batch.script_args,
                cwd=batch.directory,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                start_new_session=True,
            )
    except OSError:
        # A directory, an output file or an interpreter that is not there fails the job at once, as 0:53 in Slurm.
        return 0, LAUNCH_FAILED_SIGNAL
    code = await element.process.wait()
    kill_group(element.process.pid, signal.SIGKILL)
    return (0, -code) if code < 0 else (code, 0)


async def end_process(element: Element, *, kill_wait_s: float) -> None:
    """SIGTERM to the whole group and, after KillWait, SIGKILL."""
    process = element.process
    if process is None:
        return
    kill_group(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(kill_wait_s):
            await process.wait()
    except TimeoutError:
        kill_group(process.pid, signal.SIGKILL)


def kill_group(pid: int, number: signal.Signals) -> None:
    """Signal a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_leftovers(state: Path) -> int:
    """Kill -9 every process that bears this state's mark in its environment; returns how many there were."""
    mark = f"{STATE_MARK}={state}".encode()
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found += 1
    return found
