"""How fast the world's facility is over the model of Slurm with synthetic jobs: `python -m tests.bench.world_speed`.

Prints one JSON object: seconds for each listing of 3,072 nodes and 100,000 job records, asked over HTTP and read to the
last byte (medians of RUNS), and for a day of one-hour agents on 3,000 nodes. `--quick` is a tenth of it all. The exit
code is 1 when a listing takes a second or longer.

Beside the longest listing stands how long the same client takes for as many bytes from a bare socket, and how long
both take a client that keeps the whole answer in one piece: that is the client's memory, not the facility.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.contract.superfacility_session import Facility, script, submit
from tests.world.processes import start

JOBS = "/compute/jobs/perlmutter"
ARRAY = 1000
RUNS = 5
GOAL_S = 1.0
PIECE = b"x" * 262_144


@contextmanager
def facility(*arguments: str) -> Iterator[tuple[Facility, Callable[[], int]]]:
    """The facility over a synthetic model, and what says how much memory it has had at most, in MB."""
    base = ("--slurm", "model", "--synthetic")
    with (
        tempfile.TemporaryDirectory() as state,
        start("tests.world.superfacility", "--state", state, *base, *arguments) as (process, ready),
    ):

        def peak_rss_mb() -> int:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) // 1024

        yield Facility(ready, "model"), peak_rss_mb


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


def listings(nodes: int, records: int) -> tuple[dict[str, Any], int]:
    """Each kind of listing, while most records have ended and all nodes are busy, and while all of them wait.

    Also returns the facility's peak memory in MB.
    """
    arguments = ("--nodes", str(nodes), "--submit-limit", str(10 * records))
    with facility(*arguments) as (outside, _), outside.client() as client:
        submit_arrays(client, records, 60)
        time.sleep(1)
        line = "squeue -h -r -o '%A|%i|%F|%K|%T|%r|%S|%e|%N|%V|%k|%j' | wc -l"
        found = {"command_squeue_of_all": of_runs(lambda: timed(lambda: int(run(client, line))))}
    with facility(*arguments, "--speed", "3600") as (outside, peak_rss_mb), outside.client() as client:
        # Nearly all run to their end; the rest stay for the listing of what runs and waits.
        submit_arrays(client, records - 2 * nodes, 60)
        ended(outside)
        submit_arrays(client, 2 * nodes, 10**9 / 2)
        time.sleep(1)
        asked: dict[str, dict[str, Any]] = {
            "squeue_user": {"kwargs": [f"user={outside.ready['user']}"]},
            "squeue_name": {"kwargs": ["name=nacre-bench-0"]},
            "sacct_name": {"kwargs": ["name=nacre-bench-0"], "sacct": True},
            "sacct_page_of_10000": {"sacct": True, "index": 50_000, "limit": 10_000},
            "sacct_all_with_steps": {"sacct": True},
        }
        requests = {
            name: client.build_request("GET", JOBS, params=params | {"cached": False}) for name, params in asked.items()
        }
        for name, request in requests.items():
            found[name] = of_runs(lambda request=request: read(client, request))  # type: ignore[misc]
            found[name]["rows"] = len(client.send(request).json()["output"])
        command = "sacct -X -P -n -S now-2days -o JobID,JobIDRaw,State,ExitCode,Submit,Start,End,NodeList | wc -l"
        found["command_sacct"] = of_runs(lambda: timed(lambda: int(run(client, command))))
        ledger = client.build_request("GET", outside.ready["admin_url"] + "/ledger")
        found["ledger"] = of_runs(lambda: read(client, ledger))
        size = found["sacct_all_with_steps"]["said"]
        with bare_server(size) as url:
            bare = client.build_request("GET", url)
            found["bare_read_of_as_much"] = of_runs(lambda: read(client, bare))
            longest = requests["sacct_all_with_steps"]
            for name, request in (("sacct_all_with_steps", longest), ("bare_read_of_as_much", bare)):
                runs = of_runs(lambda request=request: timed(lambda: len(client.send(request).content)))  # type: ignore[misc]
                found[name]["kept_whole_s"] = runs["s"]
        return found, peak_rss_mb()


def of_runs(act: Callable[[], tuple[float, int]]) -> dict[str, Any]:
    """Do it RUNS times; returns the median, all runs, and what was said last (bytes, or a command's count)."""
    found = [act() for _ in range(RUNS)]
    seconds = [seconds for seconds, _ in found]
    return {"s": statistics.median(seconds), "runs": seconds, "said": found[-1][1]}


def read(client: httpx.Client, request: httpx.Request) -> tuple[float, int]:
    """Return the seconds to an answer's last byte, and its length."""

    def whole() -> int:
        answer = client.send(request, stream=True)
        try:
            return sum(len(piece) for piece in answer.iter_bytes())
        finally:
            answer.close()

    return timed(whole)


@contextmanager
def bare_server(size: int) -> Iterator[str]:
    """A process that answers every connection with so many bytes, made of nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.Process(target=_answer_barely, args=(listener, size), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            process.kill()
            process.join()


def _answer_barely(listener: socket.socket, size: int) -> None:
    while True:
        link, _ = listener.accept()
        with link:
            link.recv(65_536)
            link.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
            for first in range(0, size, len(PIECE)):
                link.sendall(PIECE[: size - first])


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
    with facility("--nodes", str(nodes), "--speed", str(speed)) as (outside, _), outside.client() as client:
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


def measure(_directory: Path) -> dict[str, Any]:
    """Return the figures of `make bench`: the median seconds of each listing at 3,072 nodes and 100,000 records."""
    found, peak_rss_mb = listings(3072, 100_000)
    memory = {"world_facility_peak_rss_mb": {"value": peak_rss_mb, "unit": "MB", "goal": None, "runs": [peak_rss_mb]}}
    return memory | {
        f"world_{name}_s": {"value": one["s"], "unit": "s", "goal": GOAL_S, "runs": one["runs"]}
        for name, one in found.items()
    }


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.world_speed", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of nodes, records and agents")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    found, peak_rss_mb = listings(3072 // part, 100_000 // part)
    said = {"listings": found, "facility_peak_rss_mb": peak_rss_mb, "day": day(3000 // part, 24, 1200.0)}
    sys.stdout.write(json.dumps(said, indent=1) + "\n")
    return 0 if all(one["s"] < GOAL_S for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
