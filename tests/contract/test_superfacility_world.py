"""Our client against the world's Superfacility API, over the real Slurm and over the model."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs.runtime.errors import Overloaded, RateLimited
from libs.slurm.access import ApiClientKey
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from libs.slurm.rows import BatchJob
from libs.slurm.states import Ending, Phase
from libs.slurm.superfacility import Endpoint, SuperfacilityClient, connected
from tests.contract.superfacility_session import Facility

pytestmark = pytest.mark.timeout(120)


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
        task_poll_s=0.2,
        task_patience_s=10.0,
    )
    async with connected(endpoint) as client:
        yield client
        facility.admin("DELETE", "/_faults")
        for job in (await client.listing(ready["user"])).rows:
            await client.cancel(str(job.array_job_id))


def script(facility: Facility, name: str, line: str, *options: str) -> str:
    given = [f"-J {name}", "--array=0-2", "-q regular", f"-A {facility.ready['account']}", "-C cpu", "-n 1", "-t 5"]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {one}" for one in (*given, "-o /dev/null", *options)), line, ""])


async def rows_of(client: SuperfacilityClient, facility: Facility, name: str, holds: Any) -> list[BatchJob]:
    """The rows of one name in complete listings, once they hold."""
    async with asyncio.timeout(40):
        while True:
            listing = await client.listing(facility.ready["user"])
            assert listing.complete, listing.why_not
            found = [row for row in listing.rows if row.name == name]
            if holds(found):
                return found
            await asyncio.sleep(0.2)


async def ended_of(
    client: SuperfacilityClient, facility: Facility, count: int, **asked: list[str]
) -> list[BatchJob]:  # fmt: skip
    """sacct's ended rows, once there are so many jobs."""
    since = datetime.now(UTC) - timedelta(hours=1)
    async with asyncio.timeout(40):
        while True:
            listing = await client.accounting(facility.ready["user"], since=since, **asked)
            found = [row for row in listing.rows if row.state.phase is Phase.ENDED]
            if sum(row.jobs for row in found) >= count:
                return found
            await asyncio.sleep(0.2)


async def test_an_array_from_pending_to_sacct(client: SuperfacilityClient, facility: Facility) -> None:
    """Submitted in one POST, listed by tasks, ended with exit codes by id and by name."""
    outcome = await client.submit(script(facility, "nacre-w-life", "sleep 2; exit $SLURM_ARRAY_TASK_ID"))
    assert isinstance(outcome, Accepted)
    rows = await rows_of(client, facility, "nacre-w-life", lambda rows: sum(row.jobs for row in rows) == 3)
    assert {row.array_job_id for row in rows} == {int(outcome.job_id)}
    await rows_of(client, facility, "nacre-w-life", lambda rows: not rows)
    for asked in ({"job_ids": [outcome.job_id]}, {"names": ["nacre-w-life"]}):
        ended = await ended_of(client, facility, 3, **asked)
        assert {row.indices: row.exit_code for row in ended} == {(0,): 0, (1,): 1, (2,): 2}
        assert all(row.ended_at and abs(datetime.now(UTC) - row.ended_at) < timedelta(minutes=5) for row in ended)


async def test_cancelling_one_task_and_the_rest(client: SuperfacilityClient, facility: Facility) -> None:
    """One task, then the whole array; sacct says who."""
    outcome = await client.submit(script(facility, "nacre-w-cancel", "sleep 600"))
    assert isinstance(outcome, Accepted)
    await rows_of(client, facility, "nacre-w-cancel", lambda rows: {row.state.name for row in rows} == {"RUNNING"})
    assert isinstance(await client.cancel(f"{outcome.job_id}_1"), Accepted)
    left = await rows_of(client, facility, "nacre-w-cancel", lambda rows: len(rows) == 2)
    assert sorted(row.indices or () for row in left) == [(0,), (2,)]
    assert isinstance(await client.cancel(outcome.job_id), Accepted)
    ended = await ended_of(client, facility, 3, job_ids=[outcome.job_id])
    assert {row.state.ending for row in ended} == {Ending.CANCELLED}


async def test_refusals_in_slurms_words(client: SuperfacilityClient, facility: Facility) -> None:
    """The submit limit of a QOS, an unknown QOS and an unknown option are refused, each in its class."""
    for options, kind in {
        ("-q debug", "--array=0-9"): RefusalKind.SUBMIT_LIMIT,
        ("-q nope",): RefusalKind.QOS,
        ("--nonsense",): RefusalKind.SCRIPT,
    }.items():
        outcome = await client.submit(script(facility, "nacre-w-refused", "true", *options))
        assert isinstance(outcome, Refusal) and outcome.kind is kind, outcome


@pytest.mark.parametrize(
    "fault",
    [{"kind": "late_504", "delay_s": 0.2}, {"kind": "close_after"}, {"kind": "vanished_task"}],
    ids=["late 504", "closed after", "vanished task"],
)
async def test_a_lost_answer_is_unclear_and_one_array(
    client: SuperfacilityClient, facility: Facility, fault: dict[str, Any]
) -> None:
    """After each lost answer the outcome is unclear, and Slurm holds the array exactly once, to be found by name."""
    name = f"nacre-w-{fault['kind'].replace('_', '-')}"
    facility.admin("POST", "/_faults", **fault | {"method": "POST", "path": "/compute/jobs/*"})
    assert isinstance(await client.submit(script(facility, name, "sleep 600")), Unclear)
    rows = await rows_of(client, facility, name, lambda rows: sum(row.jobs for row in rows) == 3)
    assert len({row.array_job_id for row in rows}) == 1
    named = await client.listing(facility.ready["user"], names=[name, "nacre-w-nobody"])
    assert sum(row.jobs for row in named.rows) == 3


async def test_faults_of_reads_raise(client: SuperfacilityClient, facility: Facility) -> None:
    """ERROR with HTTP 200, 502 and 429 are errors of the tree, never an empty listing."""
    for fault, error in (
        ({"kind": "error_200"}, Overloaded),
        ({"kind": "status", "code": 502}, Overloaded),
        ({"kind": "status", "code": 429, "retry_after_s": 1}, RateLimited),
    ):
        facility.admin("POST", "/_faults", **fault | {"method": "GET", "path": "/compute/jobs/*"})
        with pytest.raises(error):
            await client.listing(facility.ready["user"])
    assert (await client.listing(facility.ready["user"])).complete


async def test_status_and_planned_outages(client: SuperfacilityClient, facility: Facility) -> None:
    """The facility's word, in our types."""
    assert (await client.facility_status()).status == "active"
    facility.admin("POST", "/_outages", start_at=1_800_000_000, end_at="2027-02-01T00:00:00+00:00")
    try:
        (outage,) = await client.planned_outages()
        assert outage.start_at == datetime(2027, 1, 15, 8, tzinfo=UTC)
    finally:
        facility.admin("DELETE", "/_outages")
