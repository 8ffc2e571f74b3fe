"""Every way to the batch queue does the same to a Slurm, a real one and the model."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.slurm.batch_queue import BatchQueue
from libs.slurm.local import LocalQueue
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind
from libs.slurm.rows import BatchJob
from libs.slurm.states import Ending, Phase
from libs.slurm.superfacility import SuperfacilityClient
from tests.contract.batch_queue.conftest import script
from tests.contract.superfacility_session import Facility

pytestmark = pytest.mark.timeout(120)


async def rows_of(queue: BatchQueue, facility: Facility, name: str, holds: Any) -> list[BatchJob]:
    """The rows of one name in complete listings, once they hold."""
    async with asyncio.timeout(40):
        while True:
            listing = await queue.listing(facility.ready["user"])
            assert listing.complete, listing.why_not
            found = [row for row in listing.rows if row.name == name]
            if holds(found):
                return found
            await asyncio.sleep(0.2)


async def ended_of(queue: BatchQueue, facility: Facility, count: int, **asked: list[str]) -> list[BatchJob]:
    """sacct's ended rows, once there are so many jobs."""
    since = datetime.now(UTC) - timedelta(hours=1)
    async with asyncio.timeout(40):
        while True:
            listing = await queue.accounting(facility.ready["user"], since=since, **asked)
            found = [row for row in listing.rows if row.state.phase is Phase.ENDED]
            if sum(row.jobs for row in found) >= count:
                return found
            await asyncio.sleep(0.2)


def named(way: str) -> str:
    """A job name that no other test has."""
    return f"nacre-w-{way}-{time.time_ns()}"


async def test_an_array_from_pending_to_sacct(queue: BatchQueue, facility: Facility) -> None:
    """Submitted at once, listed by tasks, ended or cancelled one by one, with exit codes in sacct by id and by name."""
    name = named("life")
    line = 'case "$SLURM_ARRAY_TASK_ID" in 0) exit 0 ;; 1) exit 3 ;; esac; sleep 600'
    outcome = await queue.submit(script(facility, name, line, "--array=0-3"))
    assert isinstance(outcome, Accepted)
    rows = await rows_of(queue, facility, name, lambda rows: sum(row.jobs for row in rows) in (2, 3, 4))
    assert {row.array_job_id for row in rows} == {int(outcome.job_id)}
    assert {row.account for row in rows} == {facility.ready["account"]}
    by_name = await queue.listing(facility.ready["user"], names=[name, "nacre-w-nobody"])
    assert by_name.complete
    assert {row.name for row in by_name.rows} == {name}
    await rows_of(queue, facility, name, lambda rows: [row.state.name for row in rows] == ["RUNNING"] * 2)
    assert await queue.cancel(f"{outcome.job_id}_2") == Accepted(job_id=f"{outcome.job_id}_2")
    outcomes = await queue.cancel_all([f"{outcome.job_id}_3", "16; rm -rf /", "4000000"])
    assert isinstance(outcomes["16; rm -rf /"], Refusal)
    assert outcomes[f"{outcome.job_id}_3"] == Accepted(job_id=f"{outcome.job_id}_3")
    for asked in ({"job_ids": [outcome.job_id]}, {"names": [name]}):
        ended = await ended_of(queue, facility, 4, **asked)
        assert {row.indices: row.state.ending for row in ended} == {
            (0,): Ending.OK, (1,): Ending.FAILED, (2,): Ending.CANCELLED, (3,): Ending.CANCELLED,
        }  # fmt: skip
        assert [row.exit_code for row in ended if row.indices == (1,)] == [3]
        assert all(row.ended_at and abs(datetime.now(UTC) - row.ended_at) < timedelta(minutes=5) for row in ended)


async def test_refusals_in_slurms_words(queue: BatchQueue, facility: Facility) -> None:
    """A submit limit, an unknown QOS, an unknown option and no script: refused, each in its class, nothing queued."""
    for options, kind in {
        ("-q debug", "--array=0-9"): RefusalKind.SUBMIT_LIMIT,
        ("-q nope",): RefusalKind.QOS,
        ("--nonsense",): RefusalKind.SCRIPT,
    }.items():
        outcome = await queue.submit(script(facility, "nacre-w-refused", "true", *options))
        assert isinstance(outcome, Refusal) and outcome.kind is kind, outcome
    assert await rows_of(queue, facility, "nacre-w-refused", lambda rows: True) == []


async def test_a_void_script_is_not_submitted(queue: BatchQueue, facility: Facility) -> None:
    """Past its void_after a script is refused as void, and Slurm never sees it."""
    name = named("void")
    late = f"# nacre: void_after={int(time.time()) - 5}"
    outcome = await queue.submit(script(facility, name, f"{late}\nsleep 600"))
    assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.VOID
    assert await rows_of(queue, facility, name, lambda rows: True) == []


async def test_the_name_is_the_scripts_last_one(queue: BatchQueue, facility: Facility) -> None:
    """Every way submits under the name that the script gives itself; a script without a plain one is refused."""
    name = named("last")
    outcome = await queue.submit(script(facility, "nacre-w-first", "sleep 600", f"--job-name={name}"))
    assert isinstance(outcome, Accepted)
    await rows_of(queue, facility, name, lambda rows: sum(row.jobs for row in rows) == 3)
    for bad in ("#!/bin/bash\ntrue\n", "#!/bin/bash\n#SBATCH -J 'a b'\ntrue\n", "#!/bin/bash\n#SBATCH -J 'a\ntrue\n"):
        outcome = await queue.submit(bad)
        assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.SCRIPT


async def test_a_long_array_full_of_holes(
    client: SuperfacilityClient, local: LocalQueue, facility: Facility
) -> None:  # fmt: skip
    """Where the jobs endpoints cut a list of array tasks, commands list every task."""
    name = named("holes")
    outcome = await local.submit(script(facility, name, "sleep 600", "--array=0-199", "--hold"))
    assert isinstance(outcome, Accepted)
    holes = await local.cancel_all([f"{outcome.job_id}_{index}" for index in range(1, 200, 2)])
    assert {type(one) for one in holes.values()} == {Accepted}
    for way in (local, client.commands):
        listing = await way.listing(facility.ready["user"], names=[name])
        assert listing.complete
        assert sorted(index for row in listing.rows for index in row.indices or ()) == list(range(0, 200, 2))
