"""What tracking costs: a cycle over 10,000 running agents, and each agent over its life, at 100, 1,000 and 10,000.

Beside it, on the same batch queue, the incumbent's way (two whole listings per loop, each with a token of its own) and
one request per batch job (measured on 50, scaled to all). The queue is the model's, its answers travel over HTTP.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from libs.events import subjects
from tests.e2e.tracking import CE, Stand, standing

JOBS, ARRAY = 10_000, 500
CYCLES = 5
INTERVAL_S = 4.0
GONE = 1000
SAMPLED = 50
LIVES = (100, 1000, 10_000)
FOREVER = "run_s=1000000"
GOAL_REQUESTS, GOAL_CPU_S, GOAL_PEAK_MB = 2, 1.0, 150.0
JOBS_PATH = "/compute/jobs/perlmutter"


async def until(holds: Callable[[], Awaitable[bool]], timeout_s: float = 300.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.1)


async def submit_all(stand: Stand, agents: int, plan: str) -> list[str]:
    """Arrays of agents, as large as they may be."""
    return [
        await stand.submitted(f"{first:012x}", min(ARRAY, agents - first), "-t 2880", plan=plan)
        for first in range(0, agents, ARRAY)
    ]


async def listings(stand: Stand, since: datetime) -> int:
    """Requests for listings that the facility has answered since an instant."""
    log = await asyncio.to_thread(stand.facility.admin, "GET", "/_log")
    since_s = since.timestamp()
    asked = [one for one in log if one["method"] == "GET" and JOBS_PATH in one["path"]]
    return sum(_instant_s(one["at"]) >= since_s for one in asked)


def _instant_s(at: Any) -> float:
    return float(at) if isinstance(at, int | float) else datetime.fromisoformat(at).timestamp()


async def one_cycle(stand: Stand) -> tuple[float, int]:
    """Processor seconds and listing requests from one observation to the next."""
    async with stand.bus.latest(subjects.BATCH_QUEUE_OBSERVED, CE) as queue:
        await until(lambda: _told(queue))
        assert queue.value is not None
        before, cpu_s = queue.value.at, stand.cpu_s()
        await until(lambda: _newer(queue, before))
        return stand.cpu_s() - cpu_s, await listings(stand, before)


async def _told(queue: Any) -> bool:
    return queue.value is not None


async def _newer(queue: Any, than: datetime) -> bool:
    newer: bool = queue.value.at > than
    return newer


async def cycles(folder: Path) -> dict[str, Any]:
    """Ten thousand running agents: all new, quiet, and a thousand gone; before that the others' ways."""
    world = ("--nodes", str(JOBS), "--submit-limit", str(2 * JOBS))
    async with standing(folder, *world) as stand:
        ids = await submit_all(stand, JOBS, FOREVER)
        await asyncio.sleep(2)
        beside = await asyncio.to_thread(others, stand)
        stand.start_tracker(listing_interval_s=INTERVAL_S)
        await until(lambda: recorded(stand, JOBS))
        first_cpu_s = stand.cpu_s()
        await one_cycle(stand)
        written = await stand.stored("KV_job_agents")
        quiet = [await one_cycle(stand) for _ in range(CYCLES)]
        more = await stand.stored("KV_job_agents") - written
        await stand.cancel(*ids[: GONE // ARRAY])
        busy = [await one_cycle(stand) for _ in range(3)]
        await until(lambda: recorded(stand, JOBS + GONE))
        return {
            "first_cpu_s": first_cpu_s, "quiet": quiet, "busy": busy, "written_in_quiet": more,
            "peak_mb": stand.peak_mb(), "others": beside,
        }  # fmt: skip


async def recorded(stand: Stand, writes: int) -> bool:
    """Whether so many records were written."""
    return await stand.stored("KV_job_agents") >= writes


def others(stand: Stand) -> dict[str, dict[str, float]]:
    """What the other ways take, in requests, megabytes and this process's processor seconds."""
    base = stand.facility.ready["api_base_url"]
    user = stand.facility.ready["user"]
    everything: dict[str, Any] = {"kwargs": [f"user={user}"], "cached": False}

    def incumbent() -> list[httpx.Response]:
        answers = []
        for wanted in ({"R", "S", "CG"}, {"PD", "CF"}):
            token = stand.facility.ask_token(stand.facility.assertion())
            headers = {"Authorization": f"Bearer {token.json()['access_token']}"}
            answer = httpx.get(base + JOBS_PATH, params=everything, headers=headers, timeout=120)
            sum(row["st"] in wanted for row in json.loads(answer.content)["output"])
            answers += [token, answer]
        return answers

    def one_by_one() -> list[httpx.Response]:
        names = [row["jobid"] for row in stand.http.get(JOBS_PATH, params=everything, timeout=120).json()["output"]]
        return [stand.http.get(f"{JOBS_PATH}/{job}", params={"cached": False}) for job in names[:SAMPLED]]

    def measured(way: Callable[[], list[httpx.Response]], scale: float) -> dict[str, float]:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        answers = way()
        return {
            "requests": len(answers) * scale,
            "mb": round(sum(len(answer.content) for answer in answers) * scale / 1e6, 1),
            "cpu_s": round((time.process_time() - cpu_s) * scale, 2),
            "s": round((time.perf_counter() - began_s) * scale, 1),
        }

    return {"incumbent": measured(incumbent, 1), "one_by_one": measured(one_by_one, JOBS / SAMPLED)}


async def life(folder: Path, agents: int) -> dict[str, float]:
    """What each of so many agents costs from its submission to its verdict."""
    world = ("--nodes", str(agents), "--submit-limit", str(2 * agents), "--speed", "60")
    async with standing(folder, *world) as stand:
        stand.start_tracker(listing_interval_s=2.0)
        async with stand.bus.latest(subjects.BATCH_QUEUE_OBSERVED, CE) as queue:
            await until(lambda: _told(queue))
            await submit_all(stand, agents, f"run_s={60 * (20 + agents // 200)}")
            bucket = stand.bus.bucket(subjects.JOB_AGENTS_BUCKET)

            async def all_over() -> bool:
                seen = queue.value
                if seen is None or (seen.queued, seen.running, seen.unaccounted) != (0, 0, 0):
                    return False
                records = (await bucket.everything()).values()
                ended: int = sum(entry.record.state == "ended" for entry in records)
                return ended == agents

            await until(all_over)
        return {
            "events": round(await stand.stored("JOB_AGENTS") / agents, 3),
            "kv_ops": round(await stand.stored("KV_job_agents") / agents, 3),
            "cpu_ms": round(1000 * stand.cpu_s() / agents, 2),
        }


def figure(value: float, unit: str, goal: float | None, runs: list[float]) -> dict[str, Any]:
    """One figure as `make bench` keeps it."""
    return {"value": value, "unit": unit, "goal": goal, "runs": runs}


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench."""
    found = asyncio.run(cycles(folder / "cycle"))
    lives = [asyncio.run(life(folder / f"life-{agents}", agents)) for agents in LIVES]
    requests = [float(asked) for _, asked in [*found["quiet"], *found["busy"]]]
    cpu_s = [round(spent, 2) for spent, _ in found["quiet"]]
    busy_s = [round(spent, 2) for spent, _ in found["busy"]]
    incumbent, one_by_one = found["others"]["incumbent"], found["others"]["one_by_one"]
    figures = {
        "track_10k_requests": figure(max(requests), "requests", GOAL_REQUESTS, requests),
        "track_10k_cpu_s": figure(statistics.median(cpu_s), "s", GOAL_CPU_S, cpu_s),
        "track_10k_cpu_s_1000_left": figure(max(busy_s), "s", None, busy_s),
        "track_10k_cpu_s_all_new": figure(round(found["first_cpu_s"], 2), "s", None, [round(found["first_cpu_s"], 2)]),
        "track_10k_writes_quiet": figure(found["written_in_quiet"], "writes", 0, [found["written_in_quiet"]]),
        "track_10k_peak_mb": figure(found["peak_mb"], "MB", GOAL_PEAK_MB, [found["peak_mb"]]),
    }
    for what, unit in (("events", "events"), ("kv_ops", "writes"), ("cpu_ms", "ms")):
        runs = [one[what] for one in lives]
        figures[f"cost_per_agent_{what}"] = figure(runs[-1], unit, None, runs)
    for name, way in (("incumbent", incumbent), ("one_by_one", one_by_one)):
        for what, unit in (("requests", "requests"), ("mb", "MB"), ("cpu_s", "s"), ("s", "s")):
            figures[f"track_10k_{name}_{what}"] = figure(way[what], unit, None, [way[what]])
    return figures
