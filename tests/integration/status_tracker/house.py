"""A tracker on the test's own nats-server, in front of the world's Superfacility API."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, FacilityObserved, JobAgent, Submission
from libs.runtime import site as site_file
from libs.runtime.errors import Transient
from libs.runtime.run import Context
from libs.slurm.endpoint import of_site
from libs.slurm.outcomes import Accepted
from libs.slurm.superfacility import SuperfacilityClient, connected
from services.status_tracker.service import serve

T = TypeVar("T")
MACHINE = "perlmutter"
SITE_FILE = """
[site]
name = "Perlmutter"
contact = "tests@example.org"
[central_services]
ca = "ca.pem"
certificate = "cert.pem"
key = "key.pem"
account = "tests"
[machine.perlmutter]
api_url = "{api_base_url}"
token_url = "{token_url}"
client_id_file = "{folder}/client_id"
client_key_file = "{key_path}"
user = "{user}"
time_zone = "{time_zone}"
requests_per_s = 40
listing_interval_s = 0.5
listing_floor_s = 0.1
facility_interval_s = 0.5
settle_time_s = {settle_time_s}
listing_lag_s = {listing_lag_s}
[ce.cpu]
name = "ALICE::Perlmutter::CPU"
host = "ce.example.org"
machine = "perlmutter"
batch = {{ account = "{account}", qos = "regular", directory = "{folder}", output = "%x-%a.out" }}
agent = {{ command = "agent", token_file = "token" }}
[monitoring]
public_address = "127.0.0.1:1"
destinations = []
[credentials]
host_certificate_directory = "certs"
token_file = "token"
"""


@dataclass
class House:
    """One site: its facility (`ready` is its ready line), its bus, and a client to submit with."""

    folder: Path
    ready: dict[str, Any]
    nats_url: str
    bus: Bus
    client: SuperfacilityClient
    site: site_file.Site
    queue: Latest[BatchQueueObserved]
    facility: Latest[FacilityObserved]

    async def submit(self, name: str, *lines: str, agents: int = 1, options: tuple[str, ...] = ()) -> str:
        """sbatch an array of our shape, without a record of it; gives the job id."""
        given = [
            f"-J {name}",
            f"--comment=nacre:name={name},replaces=-",
            f"--array=0-{agents - 1}",
            "-q regular",
            f"-A {self.ready['account']}",
            "-C cpu",
            "-n 1",
            "-t 10",
            "-o /dev/null",
            *options,
        ]
        script = "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in given), *lines, ""])
        outcome = await self.client.submit(script)
        assert isinstance(outcome, Accepted), outcome
        return outcome.job_id

    async def note(
        self,
        name: str,
        state: Any,
        *,
        agents: int = 1,
        job_id: str = "",
        void_in_s: float = 600,
        agents_per_job: int = 1,
    ) -> None:
        """Write a submission's record as the submitter would."""
        now = datetime.now(UTC)
        record = Submission(
            name=name,
            ce="cpu",
            machine=MACHINE,
            agents=agents,
            state=state,
            intended_at=now,
            void_after=now + timedelta(seconds=void_in_s),
            changed_at=now,
            fence=1,
            job_id=job_id,
            agents_per_job=agents_per_job,
        )
        await self.bus.bucket(subjects.SUBMISSIONS_BUCKET).write(name, record, 0)

    async def agent(self, name: str, index: int = 0) -> JobAgent | None:
        """The tracker's record; None also while NATS is away."""
        try:
            entry = await self.bus.bucket(subjects.JOB_AGENTS_BUCKET).read(f"{name}.{index}")
        except Transient:
            return None
        return None if entry is None else entry.record

    async def agent_in(self, state: str, name: str, index: int = 0, *, timeout_s: float = 30.0) -> JobAgent:
        """The record, once it is in that state."""
        async with asyncio.timeout(timeout_s):
            while (record := await self.agent(name, index)) is None or record.state != state:
                await asyncio.sleep(0.05)
        return record

    async def counts(self, holds: Callable[[BatchQueueObserved], bool], *, timeout_s: float = 30.0) -> Any:
        """The latest observation, once it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.queue.value is None or not holds(self.queue.value):
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise AssertionError(f"not within {timeout_s:g} s; the last was {self.queue.value}") from error
        return self.queue.value

    async def next_counts(self) -> BatchQueueObserved:
        """An observation whose listing was asked for from now on."""
        now = datetime.now(UTC)
        found: BatchQueueObserved = await self.counts(lambda one: one.listed_at > now)
        return found

    def be_client(self, client_id: str | None) -> None:
        """Put another API client id in the secret's place; None takes it away."""
        path = self.folder / "client_id"
        path.unlink(missing_ok=True)
        if client_id is not None:
            path.write_text(client_id)

    async def admin(self, method: str, path: str, /, **body: Any) -> Any:
        """Tell or ask the facility's admin port."""
        async with httpx.AsyncClient(timeout=10, verify=False) as http:
            answer = await http.request(method, self.ready["admin_url"] + path, json=body or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextlib.asynccontextmanager
    async def tracking(self) -> AsyncIterator[Context]:
        """A tracker at work until left."""
        context = Context(
            service="status_tracker",
            instance="t-1",
            site=self.site,
            nats_url=self.nats_url,
            options=argparse.Namespace(),
        )
        task = asyncio.create_task(serve(context))
        try:
            yield context
        finally:
            context.stop.set()
            async with asyncio.timeout(20):
                await task


@contextlib.asynccontextmanager
async def standing(
    folder: Path,
    ready: dict[str, Any],
    bus: Bus,
    nats_url: str,
    *,
    settle_time_s: float = 3.0,
    listing_lag_s: float = 1.0,
    time_zone: str = "UTC",
) -> AsyncIterator[House]:
    """The site's parts around a facility and a bus that stand already."""
    (folder / "client_id").write_text(ready["client_id"])
    text = SITE_FILE.format(
        folder=folder, settle_time_s=settle_time_s, listing_lag_s=listing_lag_s, **ready | {"time_zone": time_zone}
    )
    path = folder / "site.toml"
    path.write_text(text)
    site = site_file.load(path)
    async with (
        connected(of_site(site, MACHINE, 0.5)) as client,
        bus.latest(subjects.BATCH_QUEUE_OBSERVED, "cpu") as queue,
        bus.latest(subjects.FACILITY_OBSERVED, MACHINE) as facility,
    ):
        yield House(folder, ready, nats_url, bus, client, site, queue, facility)
