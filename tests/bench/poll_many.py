"""Twenty CEs polled side by side: what their polls take beyond the slowest CE's two answers, and the poller's memory.

The pollers and nats-server are real; the central services give each answer after `ANSWER_S`, so the slowest CE's
two answers are `2 * ANSWER_S`, and all else is counted against the poller: the server's own time too. Afterwards the
service runs as a process with the same twenty CEs, and its resident memory is read.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvloop

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.alice.identity import CurrentIdentity
from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.health import Health
from libs.runtime.site import Site, load
from services.queue_poller.poller import Poller
from services.queue_poller.site_config import SiteConfigs, Sources
from tests.bench.idle_memory import resident_mb
from tests.e2e.house import free_port
from tests.nats_server import NatsServer
from tests.world import processes

CES = 20
ANSWER_S = 0.3
ROUNDS = 7
GOAL_MS = 100.0
GOAL_MB = 60.0
SETTLE_S = 15.0
SAMPLES = 5
ESTABLISHED = "01"


def write_site(folder: Path, ready: dict[str, Any]) -> Path:
    """A site file with every CE of the central services; polls would come as quickly as they can."""
    for name in ("id", "key"):
        (folder / name).write_text("secret")
    central = "\n".join(f'{ours} = "{ready[theirs]}"' for ours, theirs in (("ca", "ca"), ("certificate", "cert")))
    ces = "\n".join(
        f"""[ce.{name.rpartition("::")[2]}]
name = "{name}"
host = "{ready["ce_host"]}"
machine = "perlmutter"
batch = {{ account = "m0", qos = "regular", directory = "/tmp", output = "/dev/null" }}
agent = {{ command = "true", token_file = "x" }}"""
        for name in ready["ces"]
    )
    path = folder / "site.toml"
    path.write_text(f"""
[site]
name = "JTestSite"
contact = "bench@localhost"
[central_services]
host = "{ready["host"]}"
port = {ready["port"]}
{central}
key = "{ready["key"]}"
account = "{ready["account"]}"
poll_interval_s = 1
[machine.perlmutter]
client_id_file = "{folder / "id"}"
client_key_file = "{folder / "key"}"
user = "nobody"
[monitoring]
public_address = "127.0.0.1:8884"
destinations = ["127.0.0.1:1"]
[credentials]
host_certificate_directory = "{folder}"
token_file = "{folder / "token"}"
{ces}
""")
    return path


def connections_to(port: int) -> int:
    """Established TCP connections of this machine to that port (https://www.kernel.org/doc/html/v6.1/networking)."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


@contextlib.asynccontextmanager
async def pollers(site: Site, bus: Bus) -> AsyncIterator[list[Poller]]:
    """One for each CE, as the service has them."""
    central = Settings.of(site.central_services)
    current = CurrentIdentity(central.identity)
    async with contextlib.AsyncExitStack() as stack:
        facility = await stack.enter_async_context(bus.latest(subjects.FACILITY_OBSERVED, "perlmutter"))
        sources = {
            short: Sources(
                published=await stack.enter_async_context(bus.latest(subjects.SITE_CONFIG_OBSERVED, short)),
                facility=facility,
            )
            for short in site.ce
        }
        clients = [await stack.enter_async_context(CentralServices(central, current)) for _ in site.ce]
        configs = SiteConfigs(site.ce, clients[0], sources, bus, interval_s=300.0)
        yield [
            Poller(short, client, configs, bus, interval_s=60.0, health=Health())
            for short, client in zip(site.ce, clients, strict=True)
        ]


async def one_round(polled: list[Poller], admin_url: str) -> float:
    """Milliseconds beyond the slowest CE's two answers, until every CE's demand is published."""
    async with httpx.AsyncClient() as client:
        order = {"kind": "slow", "request": "*", "count": 2 * CES, "delay_s": ANSWER_S}
        (await client.post(f"{admin_url}/_faults", json=order)).raise_for_status()
    started_s = time.perf_counter()
    await asyncio.gather(*(poller.step() for poller in polled))
    return (time.perf_counter() - started_s - 2 * ANSWER_S) * 1000


async def rounds(site: Site, ready: dict[str, Any], nats: NatsServer) -> tuple[list[float], list[float], int]:
    """Each round's figure over kept connections, those of first rounds, which connect, and the connections."""
    warm, cold, most = [], [], 0
    async with connection.connected(nats.url, "queue_poller/bench", Health()) as bus:
        await schema.initialise(bus.js, 1)
        for _ in range(3):
            async with pollers(site, bus) as polled:
                cold.append(await one_round(polled, ready["admin_url"]))
                warm += [await one_round(polled, ready["admin_url"]) for _ in range(ROUNDS)]
                most = max(most, connections_to(ready["port"]))
    return warm, cold, most


def memory(site: Path, nats: NatsServer, folder: Path) -> list[float]:
    """The service's resident memory with all CEs, in MB."""
    environment = {"NACRE_NATS_URL": nats.url, "NACRE_HTTP_LISTEN": f"127.0.0.1:{free_port()}"}
    service = processes.launch(
        "services.queue_poller", "--config", str(site), env=environment, log_path=folder / "poller.log"
    )
    try:
        time.sleep(SETTLE_S)
        samples = []
        for _ in range(SAMPLES):
            samples.append(round(resident_mb(service.pid), 1))
            time.sleep(1)
        return samples
    finally:
        processes.stop(service)


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench."""
    folder.mkdir(parents=True, exist_ok=True)
    nats = NatsServer(folder / f"nats-{time.time_ns()}")
    ces = [part for number in range(CES) for part in ("--ce", f"ce{number:02}")]
    state = ("--state", str(folder / f"central-{time.time_ns()}"))
    with processes.start("tests.world.central_services", "--port", "0", *state, "--generation", "2024", *ces) as (
        _,
        ready,
    ):
        nats.start()
        try:
            site = write_site(folder, ready)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                warm, cold, most = runner.run(rounds(load(site), ready, nats))
            samples = memory(site, nats, folder)
        finally:
            nats.stop()
    return {
        "poll_20_ces_beyond_two_answers_ms": figure(warm, "ms", GOAL_MS),
        "poll_20_ces_connecting_ms": figure(cold, "ms", None),
        "poll_20_ces_connections": figure([float(most)], "", float(CES)),
        "poll_20_ces_rss_mb": figure(samples, "MB", GOAL_MB),
    }


def figure(runs: list[float], unit: str, goal: float | None) -> dict[str, Any]:
    """The median of the runs, with its goal at most."""
    kept = [round(run, 1) for run in runs]
    return {"value": statistics.median(kept), "unit": unit, "goal": goal, "runs": kept}
