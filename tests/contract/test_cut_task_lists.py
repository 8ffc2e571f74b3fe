"""Task lists that squeue cuts short, counted all the same: over the real Slurm and over the model."""

import asyncio
import random
from pathlib import Path

import pytest

from libs.slurm.access import ApiClientKey
from libs.slurm.superfacility import Accepted, Endpoint, connected
from tests.contract.superfacility_session import Facility

TASKS, CANCELLED = 500, 60


@pytest.mark.timeout(120)
async def test_a_fragmented_array_is_counted_task_by_task(facility: Facility, tmp_path: Path) -> None:
    """Of 500 waiting tasks 60 are cancelled at random: the listing is complete, and has just the other 440."""
    (tmp_path / "id").write_text(facility.ready["client_id"])
    endpoint = Endpoint(
        machine="perlmutter",
        api_url=facility.ready["api_base_url"],
        token_url=facility.ready["token_url"],
        key=ApiClientKey(client_id_file=tmp_path / "id", client_key_file=Path(facility.ready["key_path"])),
        user_agent="nacre/0 (tests)",
        time_zone=facility.ready["time_zone"],
        rate_per_s=100.0,
        task_poll_s=0.05,
    )
    user, name = facility.ready["user"], "nacre-cpu-20261123t030000-c0ffee"
    lines = [f"-J {name}", f"--array=0-{TASKS - 1}%7", "-H", "-q regular", f"-A {facility.ready['account']}", "-t 10"]
    script = "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in [*lines, "-C cpu", "-o /dev/null"]), "true\n"])
    gone = set(random.Random(6).sample(range(TASKS), CANCELLED))
    async with connected(endpoint) as client:
        submitted = await client.submit(script)
        assert isinstance(submitted, Accepted)
        outcomes = await asyncio.gather(*(client.cancel(f"{submitted.job_id}_{index}") for index in sorted(gone)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        listing = await client.listing(user)
        rows = [row for row in listing.rows if row.name == name]
        await client.cancel(submitted.job_id)
    assert (listing.complete, listing.why_not) == (True, "")
    assert [set(row.indices or ()) for row in rows] == [set(range(TASKS)) - gone]
