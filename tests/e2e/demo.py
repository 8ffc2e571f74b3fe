"""The main job end to end: `make demo`.

Grid jobs enter a task queue, job agents go through a Slurm, run them, report over UDP to MonALISA, and end. Everything
runs on this machine as processes of its own. Ends by itself; exit code 0 only when nothing was lost or doubled.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from libs.bus import connection
from libs.bus.connection import Bus, Mirror
from libs.events import subjects
from libs.events.messages import JobAgent, MonitoringObserved, SubmissionIntended
from libs.runtime.health import Health
from libs.runtime.tasks import end
from tests.e2e.house import CE, CE_NAMES, GPU_CE, real_slurm_installed, standing
from tests.e2e.killing import GRID_JOBS, Killing, accounted_for
from tests.e2e.ledgers import Verdict, verdict
from tests.world.processes import REPOSITORY

BUILD = REPOSITORY / "build"
JOURNAL = BUILD / "demo-journal.jsonl"
console = Console()


class Watched(Protocol):
    """A whole house, whatever it runs in: processes of this machine (house.py) or containers."""

    slurm: str
    folder: Path

    @property
    def nats_url(self) -> str:
        """Where its bus is."""

    def metric(self, service: str, name: str) -> int:
        """A counter of a service, summed over its labels; 0 while it has not counted."""

    def central(self, path: str, body: Any = None) -> Any:
        """Ask or tell the central services' admin port."""

    def facility(self, path: str, body: Any = None) -> Any:
        """Ask or tell the facility's admin port."""

    def monalisa(self, path: str) -> Any:
        """Ask MonALISA's admin port."""


class Journey:
    """What the demo sees: the world's counts, and the bus as an operator would."""

    def __init__(self, house: Watched, bus: Bus, agents: Mirror[JobAgent], relay: Any) -> None:
        self.house = house
        self._bus = bus
        self._agents = agents
        self._relay = relay
        self.intended: dict[str, int] = {}
        self.grid_jobs: dict[str, int] = {}
        self.stored = 0

    async def count_intents(self, stop: asyncio.Event) -> None:
        """The journal's count of intended agents."""
        async for delivery in self._bus.deliveries(subjects.SUBMISSION_INTENDED, "demo", stop):
            event: SubmissionIntended = delivery.decoded()
            self.intended[event.name] = event.agents
            await delivery.done()

    def look(self) -> None:
        """Ask the world."""
        self.grid_jobs = self.house.central("/counts")
        self.stored = stored_of_agents(self.house)

    @property
    def states(self) -> Counter[str]:
        """Agents by state, as the tracker records them."""
        return Counter(entry.record.state for entry in self._agents.entries.values())

    @property
    def relayed(self) -> MonitoringObserved | None:
        """The relay's own counts."""
        value: MonitoringObserved | None = self._relay.value
        return value

    def over(self, added: int) -> bool:
        """True when every grid job is done and every intended agent has ended."""
        return self.grid_jobs.get("done") == added and self.states["ended"] == sum(self.intended.values())

    def table(self, elapsed_s: float) -> Table:
        """One screen of progress."""
        table = Table(title=f"Nacre demo, {self.house.slurm} Slurm, {elapsed_s:.0f} s", show_header=False)
        jobs, states = self.grid_jobs, self.states
        table.add_row("grid jobs", " ".join(f"{jobs.get(key, 0)} {key}" for key in ("waiting", "running", "done")))
        intended = f"{sum(self.intended.values())} intended in {len(self.intended)} submissions"
        shown = ", ".join(
            f"{states[key]} {key}" for key in ("queued", "running", "ended", "unaccounted") if states[key]
        )
        table.add_row("job agents", f"{intended}; {shown or 'none listed yet'}")
        received = self.relayed.received if self.relayed else 0
        table.add_row("datagrams", f"{received} relayed, {self.stored} of agents stored by MonALISA")
        return table


def stored_of_agents(house: Watched) -> int:
    """Datagrams of job agents that MonALISA stored: all but the CE's own reports."""
    clusters: dict[str, int] = house.monalisa("/counts")["clusters"]
    return sum(count for cluster, count in clusters.items() if "_CE_" not in cluster)


@contextlib.contextmanager
def progress(journey: Journey, started_s: float) -> Iterator[Any]:
    """A live table in a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda: live.update(journey.table(time.monotonic() - started_s))
        return
    last_s = 0.0

    def line() -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= 3.0:
            last_s = time.monotonic()
            jobs, states = journey.grid_jobs, dict(journey.states)
            console.print(f"{last_s - started_s:5.0f} s  grid jobs {jobs}  agents {states}  stored {journey.stored}")

    yield line


def shares(grid_jobs: int) -> dict[str, int]:
    """A quarter of the grid jobs is for the GPU nodes."""
    return {CE: grid_jobs - grid_jobs // 4, GPU_CE: grid_jobs // 4}


async def travel(house: Watched, added: int, timeout_s: float, killing: Killing | None = None) -> int:
    """Add the grid jobs and watch until all is over; the number of agents that the journal intended.

    With `killing` services are killed meanwhile, and each time more grid jobs are added.
    """
    stop = asyncio.Event()
    started_s = time.monotonic()
    relay_name = "monitoring-relay-1"
    async with (
        connection.connected(house.nats_url, "demo/1", Health()) as bus,
        bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents,
        bus.latest(subjects.MONITORING_OBSERVED, "site", relay_name) as relay,
        contextlib.AsyncExitStack() as stack,
    ):
        journey = Journey(house, bus, agents, relay)
        counting = asyncio.create_task(journey.count_intents(stop))
        stack.push_async_callback(end, counting)
        recording = asyncio.create_task(record(bus, stop))
        stack.push_async_callback(end, recording)
        for ce, count in shares(added).items():
            house.central("/grid_jobs", {"ce": CE_NAMES[ce], "count": count})
            console.print(f"{count} grid jobs added to the task queue of {CE_NAMES[ce]}")
        disturbing = asyncio.create_task(killing.run()) if killing else None
        total = added + (GRID_JOBS if killing else 0)
        with progress(journey, started_s) as show:
            while not journey.over(total) or (disturbing and not disturbing.done()):
                if time.monotonic() - started_s > timeout_s:
                    console.print(f"not over after {timeout_s:.0f} s; see {house.folder}/logs")
                    break
                await asyncio.to_thread(journey.look)
                show()
                await asyncio.sleep(0.25)
        if disturbing:
            stack.push_async_callback(end, disturbing)
            await asyncio.wait_for(disturbing, timeout_s)
        await _last_datagrams(house)
        stop.set()
        await asyncio.wait_for(asyncio.gather(counting, recording), 10)
        if agents.entries:
            name = BUILD.name + "/" + JOURNAL.name
            console.print(f"one agent's story: nacre trace {min(agents.entries)} --journal {name}", soft_wrap=True)
        return sum(journey.intended.values())


async def record(bus: Bus, stop: asyncio.Event) -> None:
    """Keep every message but the datagrams in build/demo-journal.jsonl, for `nacre trace --journal`."""
    BUILD.mkdir(exist_ok=True)
    with JOURNAL.open("wb") as journal:
        async for seen in bus.tap(stop):
            if f".{subjects.MONITORING_RECEIVED.name}." not in seen.subject:
                line = {"subject": seen.subject, "trace": seen.trace, "body": msgspec.Raw(seen.body)}
                journal.write(msgspec.json.encode(line) + b"\n")


async def _last_datagrams(house: Watched, patience_s: float = 10.0) -> None:
    """Datagrams are still on their way when the last agent ends."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        sent = sum(agent["datagrams_sent"] for agent in house.central("/ledger")["agents"])
        if await asyncio.to_thread(stored_of_agents, house) >= sent:
            return
        await asyncio.sleep(0.2)


def judged(house: Watched, intended: int, duration_s: float) -> tuple[dict[str, Any], Verdict]:
    """The content of build/demo-summary.json, and the verdict that the world's ledgers give."""
    ledger = house.central("/ledger")
    found = verdict(house.facility("/ledger"), ledger["grid_jobs"], ledger["agents"])
    received = house.metric("monitoring_relay", "nacre_relay_received_total")
    stored = stored_of_agents(house)
    content = {
        "slurm": house.slurm,
        "grid_jobs": {"added": found.grid_jobs, "done": found.grid_jobs_done},
        "job_agents": {
            "intended": intended,
            "accepted": found.accepted,
            "completed": found.completed,
            "lost": found.lost,
            "doubled": found.doubled,
        },
        "datagrams": {
            "sent": found.datagrams_sent,
            "received": received,
            "stored_by_monalisa": stored,
            "lost": max(0, found.datagrams_sent - stored),
        },
        "duration_s": round(duration_s, 1),
    }
    return content, found


def print_summary(content: dict[str, Any], found: Verdict) -> None:
    """The summary as a table, and every loss in words."""
    table = Table(title="Summary", show_header=False)
    for key, figures in content.items():
        text = (
            ", ".join(f"{count} {name}" for name, count in figures.items())
            if isinstance(figures, dict)
            else str(figures)
        )
        table.add_row(key.replace("_", " "), text)
    console.print(table)
    for line in found.wrong:
        console.print(f"[red]{line}[/red]")


def good(content: dict[str, Any], datagrams_accounted_for: bool | None = None) -> bool:
    """True when nothing was lost or doubled, and everything was done.

    Datagrams may be lost only where services are killed, and must be accounted for then.
    """
    jobs, agents, datagrams = content["grid_jobs"], content["job_agents"], content["datagrams"]
    no_datagram = not datagrams["lost"] if datagrams_accounted_for is None else datagrams_accounted_for
    nothing = not (agents["lost"] or agents["doubled"]) and no_datagram
    everything = jobs["done"] == jobs["added"] and agents["completed"] == agents["accepted"]
    return nothing and bool(everything)


def run(slurm: str, grid_jobs: int, folder: Path, timeout_s: float, *, kill: bool = False) -> int:
    """The whole demo; the exit code."""
    started_s = time.monotonic()
    console.print(f"starting nats-server, the world and the services in {folder} ({slurm} Slurm)")
    with standing(folder, slurm) as house:
        console.print(f"everything is ready after {time.monotonic() - started_s:.1f} s")
        killing = Killing(house, console.print) if kill else None
        intended = asyncio.run(travel(house, grid_jobs, timeout_s, killing))
        content, found = judged(house, intended, time.monotonic() - started_s)
        if killing:
            content["datagrams"] = {"sent": found.datagrams_sent, **killing.datagrams(found.datagrams_sent)}
    BUILD.mkdir(exist_ok=True)
    (BUILD / "demo-summary.json").write_text(json.dumps(content, indent=1) + "\n")
    print_summary(content, found)
    return 0 if good(content, accounted_for(content["datagrams"]) if kill else None) else 1


def main() -> int:
    """Command line of `make demo`."""
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--slurm", choices=["auto", "real", "model"], default="auto", help="auto: real when installed")
    parser.add_argument("--grid-jobs", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=BUILD / "demo", help="state and logs")
    parser.add_argument("--timeout-s", type=float, default=110.0, help="give up after so long (twice with --kill)")
    parser.add_argument("--kill", action="store_true", help="kill each service and nats-server in turn")
    options = parser.parse_args()
    slurm = options.slurm
    if slurm == "auto":
        slurm = "real" if real_slurm_installed() else "model"
    # Whoever starts us in the background may have told us to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timeout_s = options.timeout_s * (2 if options.kill else 1)
        return run(slurm, options.grid_jobs, options.folder.resolve(), timeout_s, kill=options.kill)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
