"""Invariant 2: a submission is durably recorded before the first byte of its POST leaves."""

import asyncio
import json
import urllib.parse
from pathlib import Path

import httpx
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.bus.bucket import Entry
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, CentralLimits, DemandObserved, Submission
from libs.runtime import clock
from libs.runtime.site import Machine
from libs.slurm import superfacility
from libs.slurm.endpoint import of_site
from services.slurm_submitter.books import Books
from services.slurm_submitter.submitter import Sources, Submitter
from tests.unit.slurm_submitter.sites import a_site


async def test_the_record_is_there_when_the_post_arrives(bus: Bus, tmp_path: Path) -> None:
    """At the instant the facility sees the POST, the bucket holds the intent under the script's own job name."""
    seen: list[Entry[Submission] | None] = []

    async def facility(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "x", "expires_in": 600})
        if request.method == "POST":
            script = urllib.parse.parse_qs(request.content.decode())["job"][0]
            name = script.partition("#SBATCH -J ")[2].partition("\n")[0]
            seen.append(await bus.bucket(subjects.SUBMISSIONS_BUCKET).read(name))
            return httpx.Response(200, json={"task_id": "1", "status": "OK", "error": None})
        result = json.dumps({"status": "ok", "jobid": "16", "error": None})
        return httpx.Response(200, json={"id": "1", "status": "completed", "result": result})

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    (tmp_path / "client_id").write_text("abcdefghijklm")
    machine = Machine(client_id_file=tmp_path / "client_id", client_key_file=tmp_path / "key.pem", user="alicepro")
    site = msgspec.structs.replace(a_site(), machine={"perlmutter": machine})
    now = clock.now()
    limits = CentralLimits(max_jobs=10, max_queued=10)
    await bus.publish(
        subjects.DEMAND_OBSERVED, "cpu", DemandObserved(at=now, by="t/1", ce="cpu", waiting=2, limits=limits)
    )
    listing = BatchQueueObserved(
        at=now, by="t/1", ce="cpu", machine="perlmutter", listed_at=now, queued=0, running=0, unaccounted=0,
        strangers=0, user_jobs_by_qos={},
    )  # fmt: skip
    await bus.publish(subjects.BATCH_QUEUE_OBSERVED, "cpu", listing)
    async with (
        superfacility.connected(of_site(site, "perlmutter", 1.0), httpx.MockTransport(facility)) as client,
        bus.mirror(subjects.SUBMISSIONS_BUCKET) as submissions,
        bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents,
        bus.latest(subjects.DEMAND_OBSERVED, "cpu") as demand,
        bus.latest(subjects.BATCH_QUEUE_OBSERVED, "cpu") as queued,
        bus.latest(subjects.FACILITY_OBSERVED, "perlmutter") as status,
    ):
        await asyncio.wait_for(asyncio.gather(submissions.loaded.wait(), agents.loaded.wait()), 10)
        async with asyncio.timeout(10):
            while demand.value is None or queued.value is None:
                await asyncio.sleep(0.01)
        sources = {"cpu": Sources(demand=demand, listing=queued, facility=status)}
        books = Books(bus, submissions, agents, fence=1)
        await Submitter(site, bus.by, {"perlmutter": client}, sources, books).step()
    [entry] = seen
    assert entry is not None
    assert (entry.record.state, entry.record.agents) == ("intended", 2)
