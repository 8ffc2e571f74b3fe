"""Two instances of queue_poller on one bus: one works, the other takes over when it is killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.events.messages import JobAgentChanged
from libs.runtime import clock
from libs.runtime.site import Site
from services.queue_poller.decide import BURST_CHANGES
from services.queue_poller.service import serve
from tests.contract.alice.world import ROOT, World
from tests.integration.central.conftest import running, tables, toml, until
from tests.nats_server import NatsServer
from tests.unit.slurm_submitter.sites import agent

TAKEN_OVER_S = 10.0


@contextlib.asynccontextmanager
async def process(
    service: str, instance: str, config: Path, nats: NatsServer
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """One instance as a process of its own; killed at the end if it still lives."""
    names = {"NACRE_INSTANCE": instance, "NACRE_NATS_URL": nats.url, "NACRE_HTTP_LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", f"services.{service}", "--config", str(config)]
    environment = os.environ | names
    started = await asyncio.to_thread(
        subprocess.Popen, command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.kill()
        await asyncio.to_thread(started.wait, 10)


def writer(latest: Latest[Any]) -> str:
    """Who wrote the newest value."""
    return latest.value.by if latest.value else ""


def told_at(latest: Latest[Any]) -> datetime:
    """The instant of the newest value."""
    assert latest.value is not None
    at: datetime = latest.value.at
    return at


@pytest.mark.parametrize(("service", "topic", "scope"), [("queue_poller", subjects.DEMAND_OBSERVED, "firstce")])
async def test_a_standby_takes_over_from_a_killed_instance(
    world: World, tmp_path: Path, nats_server: NatsServer, bus: Bus, service: str, topic: Any, scope: str
) -> None:
    """While one works the other is silent; within 10 s of a kill -9 of the one, the other tells."""
    config = tmp_path / "site.toml"
    config.write_text(toml(tables(world, tmp_path)))
    async with (
        bus.latest(topic, scope) as seen,
        process(service, "a", config, nats_server) as first,
    ):
        await until(lambda: writer(seen) == f"{service}/a")
        async with process(service, "b", config, nats_server):
            turns = [told_at(seen)]
            while len(turns) < 12:
                await until(lambda: told_at(seen) > turns[-1])
                turns.append(told_at(seen))
                assert writer(seen) == f"{service}/a"
            first.send_signal(signal.SIGKILL)
            await until(lambda: writer(seen) == f"{service}/b", TAKEN_OVER_S)


async def test_a_burst_of_changed_job_agents_brings_the_next_poll_forward(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """One change waits for the next turn; a burst does not, but polls stay the floor apart."""
    floor_s = 0.5
    central = msgspec.structs.replace(site.central_services, poll_interval_s=600.0, poll_floor_s=floor_s)
    slow = msgspec.structs.replace(site, central_services=central)

    async def change(count: int) -> None:
        for index in range(count):
            record = agent(index=index)
            changed = JobAgentChanged(at=clock.now(), by="status_tracker/1", was="queued", record=record)
            await bus.publish(subjects.JOB_AGENT_CHANGED, "firstce", changed)

    async with (
        bus.latest(subjects.DEMAND_OBSERVED, "firstce") as one,
        bus.latest(subjects.DEMAND_OBSERVED, "secondce") as two,
        running("queue_poller", serve, slow, nats_server),
    ):
        await until(lambda: one.value and two.value)
        polls = [told_at(one)]
        other = told_at(two)
        await change(1)
        await asyncio.sleep(3 * floor_s)
        assert told_at(one) == polls[0]
        for _ in range(2):
            await change(BURST_CHANGES)
            await until(lambda: told_at(one) > polls[-1])
            polls.append(told_at(one))
        assert (polls[2] - polls[1]).total_seconds() >= floor_s
        assert told_at(two) == other
