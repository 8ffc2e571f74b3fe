"""How fast the world's facility is over the model of Slurm with synthetic jobs: `python -m tests.bench.world_speed`.

Prints one JSON object: seconds for each listing of 3,072 nodes and 100,000 job records, asked over HTTP and read to the
last byte, and for a day of one-hour agents on 3,000 nodes. `--quick` is a tenth of it all.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.contract.superfacility_session import Facility, script, submit
from tests.world.processes import start

JOBS = "/compute/jobs/perlmutter"
ARRAY = 1000


@contextmanager
def facility(*arguments: str) -> Iterator[Facility]:
    """The facility over a synthetic model."""
    with (
        tempfile.TemporaryDirectory() as state,
        start("tests.world.superfacility", "--state", state, "--slurm", "model", "--synthetic", *arguments) as (
            _,
            ready,
        ),
    ):
        yield Facility(ready, "model")


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that an action took, and what it returned."""
    began = time.perf_counter()
    said = act()
    return round(time.perf_counter() - began, 3), said


def submit_arrays(client: httpx.Client, agents: int, run_s: float) -> list[str]:
    """Submit so many agents in arrays; returns the ids."""
    ids: list[str] = []
    for first in range(0, agents, ARRAY):
        count = min(ARRAY, agents - first)
        options = [f"-J nacre-bench-{first}", f"--array=0-{count - 1}", f"--comment=nacre:name=nacre-bench-{first}"]
        text = script(f"# nacre: void_after={time.time() + 3600:.0f} run_s={run_s:g}", options=["-t 2880", *options])
        ids.append(str(submit(client, text)["jobid"]))
    return ids


def listings(nodes: int, records: int) -> dict[str, Any]:
    """Seconds, rows and megabytes of each kind of listing, while most records have ended and all nodes are busy."""
    arguments = ("--nodes", str(nodes), "--submit-limit", str(10 * records), "--speed", "3600")
    with facility(*arguments) as outside, outside.client() as client:
        # Nearly all run to their end; the rest stay for the listing of what runs and waits.
        submit_arrays(client, records - 2 * nodes, 60)
        ended(outside)
        submit_arrays(client, 2 * nodes, 10**9 / 2)
        time.sleep(1)
        asked = {
            "squeue_user": {"kwargs": [f"user={outside.ready['user']}"], "cached": False},
            "squeue_name": {"kwargs": ["name=nacre-bench-0"], "cached": False},
            "sacct_name": {"kwargs": ["name=nacre-bench-0"], "sacct": True, "cached": False},
            "sacct_page_of_10000": {"sacct": True, "cached": False, "index": 50_000, "limit": 10_000},
            "sacct_all_with_steps": {"sacct": True, "cached": False},
        }
        found: dict[str, Any] = {}
        for name, params in asked.items():
            seconds, reply = timed(lambda params=params: client.get(JOBS, params=params, timeout=120))  # type: ignore[misc]
            rows = len(reply.json()["output"])
            found[name] = {"s": seconds, "rows": rows, "mb": round(len(reply.content) / 1e6, 1)}
        commands = {
            "command_squeue": "squeue -h -r -o '%A|%i|%F|%K|%T|%r|%S|%e|%N|%V|%k|%j' | wc -l",
            "command_sacct": "sacct -X -P -n -S now-2days -o JobID,JobIDRaw,State,ExitCode,Submit,Start,End,NodeList"
            " | wc -l",
        }
        for name, line in commands.items():
            seconds, output = timed(lambda line=line: run(client, line))  # type: ignore[misc]
            found[name] = {"s": seconds, "rows": int(output)}
        found["ledger"] = {"s": timed(lambda: outside.admin("GET", "/ledger"))[0], "rows": records}
        return found


def ended(outside: Facility) -> list[dict[str, Any]]:
    """Wait until every batch job has ended; returns the ledger."""
    while True:
        time.sleep(0.5)
        rows: list[dict[str, Any]] = outside.admin("GET", "/ledger")
        if all(row["ended_at"] is not None for row in rows):
            return rows


def run(client: httpx.Client, line: str) -> str:
    """Run a command and return its output."""
    task = client.post("/utilities/command/perlmutter", data={"executable": line}).json()["task_id"]
    while (said := client.get(f"/tasks/{task}").json())["status"] == "new":
        time.sleep(0.01)
    return str(json.loads(said["result"])["output"])


def day(nodes: int, hours: int, speed: float) -> dict[str, Any]:
    """A day of one-hour agents: `nodes` at a time, `nodes * hours` in all, topped up by arrays as a CE would."""
    agents = nodes * hours
    with facility("--nodes", str(nodes), "--speed", str(speed)) as outside, outside.client() as client:
        began = time.perf_counter()
        submitted = 0
        while submitted < agents:
            answer = client.get(JOBS, params={"cached": False, "kwargs": [f"user={outside.ready['user']}"]}).json()
            active = sum(tasks(row["array_task_id"]) for row in answer["output"])
            room = min(5000 - active, agents - submitted)
            if room >= min(ARRAY, agents - submitted):
                submit_arrays(client, min(room, ARRAY), 3600)
                submitted += min(room, ARRAY)
            time.sleep(0.02)
        ledger = ended(outside)
        seconds = time.perf_counter() - began
        completed = sum(row["state"] == "COMPLETED" for row in ledger)
        hours_run = sum(row["run_s"] for row in ledger) / 3600
    return {
        "agents": agents, "completed": completed, "agent_hours": round(hours_run, 3), "speed": speed,
        "s": round(seconds, 1),
    }  # fmt: skip


def tasks(text: str) -> int:
    """Return how many tasks a row of squeue stands for: it is one range here, or one task."""
    first, _, last = text.partition("-")
    return int(last) - int(first) + 1 if last else 1


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.world_speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of nodes, records and agents")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    found = {
        "listings": listings(3072 // part, 100_000 // part),
        "day": day(3000 // part, 24, 1200.0),
        "peak_rss_mb_of_children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
