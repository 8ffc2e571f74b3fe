"""Each way to the batch queue, over a real Slurm and over the model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.slurm.access import ApiClientKey
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.local import LocalQueue, environment
from libs.slurm.superfacility import Endpoint, SuperfacilityClient, connected
from tests.contract.superfacility_session import Facility

FLAVOURS = ("jobs", "command", "local")


@pytest.fixture
async def client(facility: Facility, tmp_path: Path) -> AsyncIterator[SuperfacilityClient]:
    """A client of the facility; afterwards no job of ours and no fault is left."""
    ready = facility.ready
    (tmp_path / "id").write_text(ready["client_id"])
    endpoint = Endpoint(
        machine=ready["machine"],
        api_url=ready["api_base_url"],
        token_url=ready["token_url"],
        key=ApiClientKey(client_id_file=tmp_path / "id", client_key_file=Path(ready["key_path"])),
        user_agent="nacre/0 (tests)",
        rate_per_s=100.0,
        task_poll_s=0.1,
        task_patience_s=10.0,
    )
    async with connected(endpoint) as client:
        yield client
        facility.admin("DELETE", "/_faults")
        left = {str(job.array_job_id) for job in (await client.listing(ready["user"])).rows}
        await client.commands.cancel_all(left)


@pytest.fixture
def local(facility: Facility, request: pytest.FixtureRequest) -> LocalQueue:
    """The commands of the Slurm that is behind the facility."""
    if facility.slurm == "real":
        return LocalQueue(environment() | request.getfixturevalue("real_slurm")["environment"])
    programs = Path(facility.ready["key_path"]).parent / "model" / "bin"
    return LocalQueue(environment() | {"PATH": f"{programs}:{os.environ['PATH']}"})


@pytest.fixture(params=FLAVOURS)
def queue(request: pytest.FixtureRequest, client: SuperfacilityClient, local: LocalQueue) -> BatchQueue:
    """One way to the batch queue."""
    ways: dict[str, BatchQueue] = {"jobs": client, "command": client.commands, "local": local}
    return ways[request.param]


def script(facility: Facility, name: str, line: str, *options: str) -> str:
    """A batch script of an array of three, in our shape."""
    given = [f"-J {name}", "--array=0-2", "-q regular", f"-A {facility.ready['account']}", "-C cpu", "-n 1", "-t 5"]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {one}" for one in (*given, "-o /dev/null", *options)), line, ""])


@contextlib.contextmanager
def fault(facility: Facility, **asked: Any) -> Any:
    """A fault of the facility for as long as the block lasts."""
    facility.admin("POST", "/_faults", **asked)
    try:
        yield
    finally:
        facility.admin("DELETE", "/_faults")
