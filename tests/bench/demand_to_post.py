"""From a demand being published to the first byte of the POST that it causes arriving at the facility.

The real submitter and the real nats-server; the facility is a bare TCP listener that stamps the first byte of each POST
of a batch script, because a whole simulator would be measured along with us. The bench plays poller and tracker.
"""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, CentralLimits, DemandObserved, JobAgent
from libs.runtime import clock
from libs.runtime.health import Health
from tests.e2e.house import free_port
from tests.nats_server import NatsServer
from tests.world import processes

RUNS = 3
DEMANDS = 40
GOAL_MS = 100.0
CE = "bench"


class Facility:
    """Answers just enough of the API for a submission to be accepted, and stamps each POST's first byte."""

    def __init__(self) -> None:
        self.first_byte_s: asyncio.Queue[float] = asyncio.Queue()
        self._jobs = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One kept-alive HTTP/1.1 connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = await reader.readexactly(1)
                at_s = time.perf_counter()
                head = first + await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                writer.write(self._answer(head, body, at_s))
                await writer.drain()
        writer.close()

    def _answer(self, head: bytes, body: bytes, at_s: float) -> bytes:
        content: dict[str, Any] = {"access_token": "x", "expires_in": 600, "token_type": "Bearer"}
        if head.startswith(b"POST") and body.startswith(b"job="):
            self.first_byte_s.put_nowait(at_s)
            self._jobs += 1
            content = {"task_id": str(self._jobs), "status": "OK", "error": None}
        elif b"/tasks/" in head:
            result = json.dumps({"status": "ok", "jobid": str(self._jobs), "error": None})
            content = {"id": str(self._jobs), "status": "completed", "result": result}
        text = json.dumps(content).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


def write_site(folder: Path, port: int) -> Path:
    """A site of one CE whose facility is ours."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *pem))
    (folder / "client_id").write_text("benchbenchbnc")
    path = folder / "site.toml"
    path.write_text(f"""\
site = {{ name = "Bench", contact = "bench@example.org" }}
central_services = {{ ca = "x", certificate = "x", key = "x", account = "x" }}
monitoring = {{ public_address = "x:1", destinations = [] }}
credentials = {{ host_certificate_directory = "x", token_file = "x" }}
[machine.perlmutter]
api_url = "http://127.0.0.1:{port}/api/v1.2"
token_url = "http://127.0.0.1:{port}/token"
client_id_file = "{folder}/client_id"
client_key_file = "{folder}/key.pem"
user = "bench"
requests_per_s = 1000
[ce.{CE}]
name = "ALICE::Bench::bench"
host = "bench.example.org"
machine = "perlmutter"
batch = {{ account = "m0", qos = "regular", directory = "/tmp", output = "/dev/null" }}
agent = {{ command = "true", token_file = "x" }}
""")
    return path


async def publish_demand(bus: Bus, waiting: int) -> None:
    """What the poller would say."""
    limits = CentralLimits(max_jobs=10**6, max_queued=10**6)
    message = DemandObserved(at=clock.now(), by="queue_poller/bench", ce=CE, waiting=waiting, limits=limits)
    await bus.publish(subjects.DEMAND_OBSERVED, CE, message)


async def publish_listing(bus: Bus) -> None:
    """What the tracker would say: everything that was submitted has ended."""
    now = clock.now()
    message = BatchQueueObserved(
        at=now,
        by="status_tracker/bench",
        ce=CE,
        machine="perlmutter",
        listed_at=now,
        queued=0,
        running=0,
        unaccounted=0,
        strangers=0,
        user_jobs_by_qos={},
    )
    await bus.publish(subjects.BATCH_QUEUE_OBSERVED, CE, message)


@contextlib.asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[tuple[Bus, Facility]]:
    """A nats-server, our facility, and the submitter as a process."""
    nats = NatsServer(folder / f"nats-{time.time_ns()}")
    nats.start()
    facility = Facility()
    server = await asyncio.start_server(facility.serve, "127.0.0.1", 0)
    site = write_site(folder, server.sockets[0].getsockname()[1])
    environment = {"NACRE_NATS_URL": nats.url, "NACRE_HTTP_LISTEN": f"127.0.0.1:{free_port()}"}
    try:
        async with connection.connected(nats.url, "bench/1", Health()) as bus:
            await schema.initialise(bus.js, 1)
            submitter = processes.launch(
                "services.slurm_submitter", "--config", str(site), env=environment, log_path=folder / "submitter.log"
            )
            try:
                yield bus, facility
            finally:
                await asyncio.to_thread(processes.stop, submitter)
    finally:
        server.close()
        nats.stop()


async def one_run(folder: Path) -> list[float]:
    """Milliseconds from the publish to the first byte, one per demand; each demand is met before the next."""
    latencies_ms: list[float] = []
    async with standing(folder) as (bus, facility), bus.mirror(subjects.SUBMISSIONS_BUCKET) as submissions:
        agents = bus.bucket(subjects.JOB_AGENTS_BUCKET)
        await publish_listing(bus)
        seen: set[str] = set()
        for number in range(DEMANDS + 1):
            started_s = time.perf_counter()
            await publish_demand(bus, 1)
            first_byte_s = await asyncio.wait_for(facility.first_byte_s.get(), 20)
            if number:  # the first one also waits for the process to start and for its token
                latencies_ms.append((first_byte_s - started_s) * 1000)
            name = await _accepted(submissions, seen)
            seen.add(name)
            ended = JobAgent(
                agent=f"{name}.0", submission=name, index=0, ce=CE, machine="perlmutter", state="ended",
                first_listed_at=clock.now() - timedelta(seconds=1),
            )  # fmt: skip
            await publish_demand(bus, 0)
            await agents.write(ended.agent, ended, 0)
            await publish_listing(bus)
            await asyncio.sleep(0.05)
    return latencies_ms


async def _accepted(submissions: connection.Mirror[Any], seen: set[str]) -> str:
    async with asyncio.timeout(20):
        while True:
            for name, entry in submissions.entries.items():
                if name not in seen and entry.record.state == "accepted":
                    return name
            await asyncio.sleep(0.01)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = [asyncio.run(one_run(folder)) for _ in range(RUNS)]
    tails = [round(p99(run), 2) for run in runs]
    middles = [round(statistics.median(run), 2) for run in runs]
    return {
        "demand_to_post_ms_p99": {"value": statistics.median(tails), "unit": "ms", "goal": GOAL_MS, "runs": tails},
        "demand_to_post_ms_p50": {"value": statistics.median(middles), "unit": "ms", "goal": None, "runs": middles},
    }
