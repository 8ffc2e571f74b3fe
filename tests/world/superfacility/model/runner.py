"""Run a batch job's script as a local process in a process group of its own, and end it as Slurm would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.world.superfacility.model.jobs import Element

if TYPE_CHECKING:
    from tests.world.superfacility.model.controller import Controller

LAUNCH_FAILED_SIGNAL = 53
STATE_MARK = "NACRE_MODEL_SLURM_STATE"
# Between SIGTERM and SIGKILL, in real seconds: it is a real process that is given time.
KILL_WAIT_S = 5.0


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
    nodes = element.node_list
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
    if element.restarts:
        variables["SLURM_RESTART_COUNT"] = str(element.restarts)
    if batch.tasks is not None:
        variables |= {
            "SLURM_ARRAY_JOB_ID": str(batch.job_id),
            "SLURM_ARRAY_TASK_ID": str(element.index),
            "SLURM_ARRAY_TASK_COUNT": str(len(batch.tasks)),
            "SLURM_ARRAY_TASK_MIN": str(batch.tasks[0]),
            "SLURM_ARRAY_TASK_MAX": str(batch.tasks[-1]),
        }
    return variables


class Processes:
    """A launch (see controller.Launch) that runs each script as a local process."""

    def __init__(self, controller: Controller, *, state: Path, environment: Mapping[str, str]) -> None:
        self._controller = controller
        self._state = state
        self._environment = {**environment, STATE_MARK: str(state)}
        self._processes: dict[Element, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, element: Element) -> None:
        """Begin to run the script."""
        self._keep(asyncio.create_task(self._run(element, element.run)))

    def stop(self, element: Element, *, at_once: bool) -> None:
        """SIGTERM to the whole group and SIGKILL after KillWait, or SIGKILL at once."""
        process = self._processes.get(element)
        if process is None or process.returncode is not None:
            # Not yet begun: `_run` sees that it is not wanted any more.
            return
        if at_once:
            kill_group(process.pid, signal.SIGKILL)
        else:
            self._keep(asyncio.create_task(_end_process(process, kill_wait_s=KILL_WAIT_S)))

    def suspend(self, element: Element, *, suspended: bool) -> None:
        """SIGSTOP or SIGCONT to the whole group."""
        if (process := self._processes.get(element)) is not None:
            kill_group(process.pid, signal.SIGSTOP if suspended else signal.SIGCONT)

    async def close(self) -> None:
        """End every process, wait for them, and kill what is left."""
        for process in self._processes.values():
            self._keep(asyncio.create_task(_end_process(process, kill_wait_s=2.0)))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=4.0)
        kill_leftovers(self._state)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, element: Element, run: int) -> None:
        code, number = 0, LAUNCH_FAILED_SIGNAL
        # A directory, an output file or an interpreter that is not there fails the job at once, as 0:53 in Slurm.
        with contextlib.suppress(OSError, ValueError):
            process = await self._spawn(element)
            self._processes[element] = process
            if element.run != run or element.final_state or element.end_at is not None:
                kill_group(process.pid, signal.SIGKILL)
            number = await process.wait()
            code, number = (0, -number) if number < 0 else (number, 0)
            kill_group(process.pid, signal.SIGKILL)
            if self._processes.get(element) is process:
                del self._processes[element]
        self._controller.advance()
        self._controller.exited(element, run, code, number)

    async def _spawn(self, element: Element) -> asyncio.subprocess.Process:
        batch = element.batch
        environment = {
            **batch.environment,
            **self._environment,
            **job_environment(element, cpus=self._controller.nodes.cpus),
        }
        folder = self._state / "spool" / f"job{element.raw_id}"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "slurm_script"
        script.unlink(missing_ok=True)
        script.write_text(batch.script)
        script.chmod(0o700)
        with contextlib.ExitStack() as files:
            output = files.enter_context(fill_pattern(batch.output, element).open("wb"))
            error = files.enter_context(fill_pattern(batch.error, element).open("wb")) if batch.error else output
            return await asyncio.create_subprocess_exec(
                script,
                *batch.script_args,
                cwd=batch.directory,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                start_new_session=True,
            )


async def _end_process(process: asyncio.subprocess.Process, *, kill_wait_s: float) -> None:
    kill_group(process.pid, signal.SIGTERM)
    kill_group(process.pid, signal.SIGCONT)
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
