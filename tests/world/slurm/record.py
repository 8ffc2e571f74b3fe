"""Record rows of squeue and sacct from a real Slurm, one per state that it can be made to show.

    python -m tests.world.slurm.record --state DIR --out tests/vectors/slurm

Takes about two minutes (a deadline and a time limit are whole minutes). Each batch job's name says what was done to it:
`nacre-cpu-20261123t030000-<what>`. Writes squeue-states-live.txt, squeue-states.txt, sacct-states.txt,
squeue-fragmented.txt and squeue-fragmented-asked.txt.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.world.slurm.cluster import Cluster

PREFIX = "nacre-cpu-20261123t030000"
HOME = "/home/nacre"
TASKS, CANCELLED, ASKED = 500, 60, range(110, 260)
SETTINGS = {
    "SlurmdTimeout": "10",
    "JobAcctGatherType": "jobacct_gather/linux",
    "JobAcctGatherFrequency": "1",
    "JobAcctGatherParams": "OverMemoryKill",
    "PreemptType": "preempt/qos",
    "PreemptMode": "CANCEL",
}
LONG = "sleep 600"
# What is done by the script alone: options, and what it runs.
SCRIPTS: dict[str, tuple[str, str]] = {
    "completed": ("", "true"),
    "failed": ("", "exit 3"),
    "exit213": ("", "exit 213"),
    "killed": ("", "kill -SEGV $$"),
    "outofmemory": ("--mem=20", "x=$(head -c 300M /dev/zero | tr '\\0' x); sleep 20"),
}
WAITING: dict[str, str] = {
    "deadline": "-H --deadline=now+65",
    "cancelledwaiting": "-H",
    "throttle": "-H --array=0-9%2",
    "step": "-H --array=1-199:2",
}


class Recorder:
    """One recording on one cluster."""

    def __init__(self, cluster: Cluster, home: Path, out: Path) -> None:
        self._cluster, self._home, self._out = cluster, home, out
        self._nodes = iter(cluster.layout.node_names)

    def all(self) -> None:
        """Make every state, and write what squeue and sacct show of them."""
        self._cluster.run("sacctmgr", "-i", "modify", "qos", "regular", "set", "preempt=preempt")
        for what, options in WAITING.items():
            self._submit(what, options, "true")
        fragmented = self._fragment()
        limited = self._running("timelimit", "-t 1")
        for what, (options, line) in SCRIPTS.items():
            self._submit(what, f"{options} -w {next(self._nodes)} --array=0", line)
        lost = next(self._nodes)
        self._running("nodefailed", f"-w {lost} --no-requeue")
        again = self._running("requeued", "--requeue")
        held = self._running("requeueheld", "--requeue")
        special = self._running("specialexit", "--requeue")
        stopped = self._running("suspended", "")
        cancelled = self._running("cancelled", "")
        self._cluster.run("scontrol", "suspend", stopped)
        self._cluster.run("scancel", cancelled, self._id_of("cancelledwaiting"))
        self._cluster.run("scontrol", "update", f"JobId={limited}", "EndTime=now+2")
        self._cluster.run("scontrol", "requeue", again)
        self._cluster.run("scontrol", "requeuehold", held)
        self._cluster.run("scontrol", "requeuehold", "State=SpecialExit", special)
        self._cluster.crash_node(lost)
        self._preempt()
        self._until("requeued ones to wait", lambda: len(self._states("PD,SE,RH").split()) >= 5)
        self._write("squeue-states-live.txt", self._cluster.run("squeue", "-o", "%all", "--name", self._names()))
        ended = {"nodefailed": "NODE_FAIL", "timelimit": "TIMEOUT", "deadline": "DEADLINE", "preempted": "PREEMPTED"}
        for what, state in ended.items():
            self._until(f"{what} to end", lambda what=what, state=state: state in self._sacct_state(what), 150.0)  # type: ignore[misc]
        self._write(
            "squeue-states.txt", self._cluster.run("squeue", "-t", "all", "-o", "%all", "--name", self._names())
        )
        self._write(
            "sacct-states.txt", self._cluster.run("sacct", "-P", "-o", "ALL", "-S", "00:00", "--name", self._names())
        )
        for name, jobs in (
            ("fragmented", fragmented),
            ("fragmented-asked", ",".join(f"{fragmented}_{n}" for n in ASKED)),
        ):
            self._write(f"squeue-{name}.txt", self._cluster.run("squeue", "-o", "%all", "-j", jobs))

    def _preempt(self) -> None:
        node = next(self._nodes)
        self._running("preempted", f"-w {node}", qos="preempt")
        self._running("preemptor", f"-w {node}")

    def _fragment(self) -> str:
        job_id = self._submit("fragmented", f"-H --array=0-{TASKS - 1}%7", "true")
        gone = sorted(random.Random(6).sample(range(TASKS), CANCELLED))
        self._cluster.run("scancel", *(f"{job_id}_{index}" for index in gone))
        return job_id

    def _submit(self, what: str, options: str, line: str, qos: str = "regular") -> str:
        path = self._home / f"{what}.sh"
        path.write_text(f"#!/bin/bash\n{line}\n")
        name = f"{PREFIX}-{what}"
        own = () if "-t " in options else ("-t", "1" if "deadline" in options else "10")
        memory = () if "--mem" in options else ("--mem=100",)
        return self._cluster.run(
            "sbatch", "--parsable", "-J", name, f"--comment=nacre:name={name},replaces=-", "-q", qos, "-C", "cpu",
            "-N", "1", "-o", "/dev/null", "-D", str(self._home), *own, *memory, *options.split(), str(path),
        ).strip()  # fmt: skip

    def _running(self, what: str, options: str, qos: str = "regular") -> str:
        """Submit what sleeps, and wait until it runs."""
        job_id = self._submit(what, options if "-w" in options else f"{options} -w {next(self._nodes)}", LONG, qos)
        self._until(f"{what} to run", lambda: "RUNNING" in self._cluster.run("squeue", "-h", "-o", "%T", "-j", job_id))
        return job_id

    def _id_of(self, what: str) -> str:
        return self._cluster.run("squeue", "-h", "-o", "%F", "--name", f"{PREFIX}-{what}").split()[0]

    def _names(self) -> str:
        made = ("timelimit", "nodefailed", "requeued", "requeueheld", "specialexit", "suspended", "cancelled")
        return ",".join(f"{PREFIX}-{what}" for what in (*WAITING, *SCRIPTS, *made, "preempted"))

    def _states(self, states: str) -> str:
        return self._cluster.run("squeue", "-h", "-t", states, "-o", "%i")

    def _sacct_state(self, what: str) -> str:
        return self._cluster.run("sacct", "-X", "-n", "-P", "-S", "00:00", "-o", "State", "--name", f"{PREFIX}-{what}")

    def _until(self, what: str, holds: Callable[[], bool], patience_s: float = 60.0) -> None:
        until_s = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > until_s:
                raise RuntimeError(f"waited {patience_s:g} s for {what}")
            time.sleep(0.5)

    def _write(self, name: str, text: str) -> None:
        (self._out / name).write_text(text.replace(str(self._home), HOME))


def main() -> int:
    """Record, whatever happens stop Slurm."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.world.slurm.record", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--state", type=Path, required=True, help="directory of this instance")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cluster = Cluster(options.state, nodes=16, cpus=4, settings=SETTINGS)
    try:
        cluster.start()
        home = options.state / "home"
        home.mkdir(exist_ok=True)
        Recorder(cluster, home.resolve(), options.out).all()
    finally:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
