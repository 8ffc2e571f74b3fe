"""The bus as an operator sees it, with the genuine NATS CLI."""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import DemandObserved, Submission
from libs.runtime.run import Context
from tests.nats_server import NatsServer
from tests.unit.slurm_submitter.sites import NOW, a_site, submission

NATS_CLI = "github.com/nats-io/natscli/nats@v0.5.1"
KEPT_AT = Path(__file__).parents[3] / "build/bin/nats"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The genuine CLI, built once by Go where Go and its module proxy are at hand; skipped elsewhere."""
    if not KEPT_AT.exists():
        if shutil.which("go") is None:
            pytest.skip("no Go here to build the NATS CLI with: its tests are skipped")
        KEPT_AT.parent.mkdir(parents=True, exist_ok=True)
        built = subprocess.run(
            # Not optimised and without C: 66 s of CPU time instead of 108 where nothing is cached.
            ["nice", "-n", "19", "go", "install", "-gcflags=all=-N -l", "-ldflags=-s -w", NATS_CLI],
            env=os.environ | {"GOBIN": str(KEPT_AT.parent), "GOFLAGS": "-p=1", "CGO_ENABLED": "0"},
            capture_output=True, text=True, timeout=800, check=False,
        )  # fmt: skip
        if built.returncode:
            pytest.skip(f"the NATS CLI cannot be built here: {built.stderr.strip()[-300:]}")
    yield KEPT_AT


async def cli(program: Path, server: NatsServer, *arguments: str) -> str:
    """The output of one command."""
    process = await asyncio.create_subprocess_exec(
        str(program), "--server", server.url, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_services_are_listed(program: Path, nats_server: NatsServer, bus: Bus) -> None:
    """`nats micro ls` lists each service that is attached, `nats micro info` its instance and version."""
    contexts = [
        Context(service, "one", a_site(), nats_server.url, argparse.Namespace()) for service in subjects.SERVICES[:2]
    ]
    async with connection.attached(contexts[0]), connection.attached(contexts[1]):
        listed = await cli(program, nats_server, "micro", "ls")
        info = await cli(program, nats_server, "micro", "info", "queue_poller", "--json")
    assert all(service in listed for service in ("queue_poller", "slurm_submitter"))
    assert '"instance": "one"' in info


async def test_everything_is_readable(program: Path, nats_server: NatsServer, bus: Bus) -> None:
    """Streams, buckets, messages and records are plain JSON to the CLI."""
    message = DemandObserved(at=datetime(2026, 11, 23, tzinfo=UTC), by="queue_poller/1", ce="cpu", waiting=7)
    await bus.publish(subjects.DEMAND_OBSERVED, "cpu", message)
    record: Submission = submission()
    await bus.bucket(subjects.SUBMISSIONS_BUCKET).write(record.name, record, 0)
    names = json.loads(await cli(program, nats_server, "stream", "ls", "--json"))
    assert {stream.name for stream in subjects.STREAMS} <= set(names)
    buckets = await cli(program, nats_server, "kv", "ls")
    assert all(bucket.name in buckets for bucket in subjects.BUCKETS)
    stored: dict[str, Any] = json.loads(
        await cli(program, nats_server, "kv", "get", "submissions", record.name, "--raw")
    )
    assert datetime.fromisoformat(stored["void_after"]) > NOW
    subject = subjects.DEMAND_OBSERVED.subject("cpu")
    last = await cli(program, nats_server, "stream", "get", "LATEST", "--last-for", subject, "--json")
    assert subject in last


async def test_subscribing_shows_json(program: Path, nats_server: NatsServer, bus: Bus) -> None:
    """`nats sub 'nacre.v1.>'` shows what is published, as it happens."""
    watching = asyncio.create_task(cli(program, nats_server, "sub", "nacre.v1.>", "--count", "1", "--raw"))
    while not watching.done():
        now = datetime.now(UTC)
        await bus.publish(subjects.DEMAND_OBSERVED, "cpu", DemandObserved(at=now, by="queue_poller/1", ce="cpu"))
        await asyncio.sleep(0.2)
    assert json.loads(await watching)["ce"] == "cpu"
