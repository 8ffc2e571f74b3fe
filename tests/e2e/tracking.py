"""A tracker as a process of its own, on a nats-server, in front of the API over the model Slurm with synthetic jobs."""

import asyncio
import contextlib
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Submission
from libs.runtime import clock
from libs.runtime.health import Health
from tests.contract.superfacility_session import Facility, submit
from tests.e2e.house import free_port, total
from tests.nats_server import NatsServer
from tests.world import processes

CE = "cpu"
SITE_FILE = """
site = {{ name = "Model", contact = "tests@example.org" }}
central_services = {{ ca = "x", certificate = "x", key = "x", account = "x" }}
monitoring = {{ public_address = "127.0.0.1:1", destinations = [] }}
credentials = {{ host_certificate_directory = "x", token_file = "x" }}
[machine.perlmutter]
api_url = "{api_base_url}"
token_url = "{token_url}"
client_id_file = "{folder}/client_id"
client_key_file = "{key_path}"
user = "{user}"
time_zone = "{time_zone}"
requests_per_s = 1000
listing_interval_s = {listing_interval_s}
listing_floor_s = {listing_interval_s}
facility_interval_s = 30
settle_time_s = 60
listing_lag_s = {listing_lag_s}
listing_rows_limit = 40000
[ce.cpu]
name = "ALICE::Model::CPU"
host = "ce.example.org"
machine = "perlmutter"
batch = {{ account = "{account}", qos = "regular", directory = "/tmp", output = "/dev/null" }}
agent = {{ command = "true", token_file = "x" }}
"""


@dataclass
class Stand:
    """What stands: the facility, the bus, and the tracker once it was started."""

    folder: Path
    facility: Facility
    nats: NatsServer
    bus: Bus
    http: httpx.Client
    port: int = field(default_factory=free_port)
    tracker: subprocess.Popen[bytes] | None = None

    def start_tracker(self, *, listing_interval_s: float, listing_lag_s: float = 5.0) -> None:
        """Start it, and return at once."""
        path = self.folder / "site.toml"
        (self.folder / "client_id").write_text(self.facility.ready["client_id"])
        about = self.facility.ready | {"folder": self.folder, "listing_interval_s": listing_interval_s}
        path.write_text(SITE_FILE.format(**about, listing_lag_s=listing_lag_s))
        self.tracker = processes.launch(
            "services.status_tracker", "--config", str(path),
            env={"NACRE_NATS_URL": self.nats.url, "NACRE_HTTP_LISTEN": f"127.0.0.1:{self.port}"},
            log_path=self.folder / "tracker.log",
        )  # fmt: skip

    def metric(self, name: str) -> int:
        """A counter of the tracker, summed over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return total(answer.read().decode(), name)

    def cpu_s(self) -> float:
        """Processor time that the tracker has used."""
        assert self.tracker is not None
        fields = Path(f"/proc/{self.tracker.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def peak_mb(self) -> float:
        """The most memory (RSS, MB) that the tracker ever had."""
        assert self.tracker is not None
        text = Path(f"/proc/{self.tracker.pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:"))
        return round(kib * 1024 / 1e6, 1)

    async def submitted(self, word: str, agents: int, *options: str, plan: str, void_in_s: float = 3600) -> str:
        """Submit an array by hand, as accepted as far as the books say; gives its id."""
        now = clock.now()
        name = f"nacre-{CE}-{now:%Y%m%dt%H%M%S}-{word}"
        given = [
            f"-J {name}", f"--comment=nacre:name={name},replaces=-", f"--array=0-{agents - 1}", "-q regular",
            f"-A {self.facility.ready['account']}", "-C cpu", "-N 1", "-o /dev/null", *options,
        ]  # fmt: skip
        void_after = now + timedelta(seconds=void_in_s)
        lines = [*(f"#SBATCH {option}" for option in given), f"# nacre: void_after={void_after.timestamp():.0f} {plan}"]
        script = "\n".join(["#!/bin/bash", *lines, "true", ""])
        record = Submission(
            name=name, ce=CE, machine="perlmutter", agents=agents, state="intended", intended_at=now,
            void_after=void_after, changed_at=now, fence=1, qos="regular",
        )  # fmt: skip
        bucket = self.bus.bucket(subjects.SUBMISSIONS_BUCKET)
        revision = await bucket.write(name, record, 0)
        job_id = str((await asyncio.to_thread(submit, self.http, script))["jobid"])
        accepted = msgspec.structs.replace(record, state="accepted", job_id=job_id, changed_at=clock.now())
        await bucket.write(name, accepted, revision)
        return job_id

    async def cancel(self, *job_ids: str) -> None:
        """Cancel jobs or tasks by hand."""
        for job_id in job_ids:
            await asyncio.to_thread(self.http.delete, f"/compute/jobs/perlmutter/{job_id}")

    async def stored(self, stream: str) -> int:
        """How many messages were ever written to a stream."""
        return int((await self.bus.js.stream_info(stream)).state.last_seq)


@contextlib.asynccontextmanager
async def standing(folder: Path, *facility: str) -> AsyncIterator[Stand]:
    """Everything but the tracker; all of it is stopped when left."""
    _emptied(folder)
    with _facility(folder, *facility) as outside, outside.client() as http:
        nats = NatsServer(folder / "nats")
        nats.start()
        stand: Stand | None = None
        try:
            async with connection.connected(nats.url, "tests/1", Health()) as bus:
                await schema.initialise(bus.js, 1)
                stand = Stand(folder, outside, nats, bus, http)
                yield stand
        finally:
            if stand is not None and stand.tracker is not None:
                await asyncio.to_thread(processes.stop, stand.tracker)
            nats.stop()


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextlib.contextmanager
def _facility(folder: Path, *arguments: str) -> Iterator[Facility]:
    command = ("--state", str(folder / "facility"), "--slurm", "model", "--synthetic", *arguments)
    log = folder / "facility.log"
    with processes.start("tests.world.superfacility", *command, log_path=log) as (_, ready):
        yield Facility(ready, "model")
