"""The ways through the API against the world's facility and its faults: lost answers, late ones, one way that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.runtime import site as site_file
from libs.runtime.errors import Malformed, Misconfigured, Overloaded, RateLimited, Refused
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.connect import Machine, connected
from libs.slurm.errors import NotFound
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from libs.slurm.superfacility import SuperfacilityClient
from tests.contract.batch_queue.conftest import script
from tests.contract.superfacility_session import Facility
from tests.unit.slurm_submitter.sites import a_site
from tests.world.processes import start

pytestmark = pytest.mark.timeout(60)

JOBS, COMMAND = "/compute/jobs/perlmutter", "/utilities/command/perlmutter"


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    """The Superfacility API over the model."""
    state = str(tmp_path_factory.mktemp("facility"))
    with start("tests.world.superfacility", "--state", state, "--slurm", "model", "--nodes", "4") as (_, ready):
        yield Facility(ready, "model")


@pytest.fixture(params=["jobs", "command"])
def queue(request: pytest.FixtureRequest, client: SuperfacilityClient) -> BatchQueue:
    """One way through the API."""
    return client if request.param == "jobs" else client.commands


@pytest.fixture
async def machine(facility: Facility, tmp_path: Path) -> AsyncIterator[Machine]:
    """The machine as a service has it, jobs endpoints first."""
    async with connected(site(facility, tmp_path), "perlmutter", 1.0) as machine:
        yield machine
        facility.admin("DELETE", "/_faults")
        facility.admin("POST", "/_status", status="active")


def site(facility: Facility, tmp_path: Path, **changes: Any) -> site_file.Site:
    """A site whose machine is the world's."""
    ready = facility.ready
    (tmp_path / "client_id").write_text(ready["client_id"])
    machine = site_file.Machine(
        api_url=ready["api_base_url"],
        token_url=ready["token_url"],
        client_id_file=tmp_path / "client_id",
        client_key_file=Path(ready["key_path"]),
        user=ready["user"],
        time_zone=ready["time_zone"],
        requests_per_s=100.0,
    )
    return msgspec.structs.replace(a_site(), machine={"perlmutter": msgspec.structs.replace(machine, **changes)})


def held(facility: Facility, name: str, *lines: str) -> str:
    """A script that Slurm keeps pending."""
    return script(facility, name, "\n".join([*lines, "sleep 600"]), "--hold")


def named(word: str) -> str:
    return f"nacre-f-{word}-{time.time_ns()}"


def requests(facility: Facility, path: str, method: str = "POST") -> int:
    """How many requests the facility has seen."""
    return sum(row["method"] == method and row["path"] == path for row in facility.admin("GET", "/_log"))


async def batch_jobs(client: SuperfacilityClient, facility: Facility, name: str) -> set[int]:
    """The ids that Slurm has under a name."""
    listing = await client.commands.listing(facility.ready["user"], names=[name])
    assert listing.complete
    return {row.array_job_id for row in listing.rows}


@pytest.mark.parametrize(
    "fault",
    [{"kind": "late_504", "delay_s": 0.2}, {"kind": "close_after"}, {"kind": "vanished_task"}, {"kind": "cut_body"}],
    ids=["late 504", "closed after", "vanished task", "cut body"],
)
async def test_a_lost_answer_is_unclear_and_one_array(
    queue: BatchQueue, client: SuperfacilityClient, facility: Facility, fault: dict[str, Any]
) -> None:
    """After each lost answer the outcome is unclear, and Slurm holds the array exactly once, to be found by name."""
    name = named("lost")
    facility.admin("POST", "/_faults", **fault | {"method": "POST", "path": "/[cu]*/perlmutter"})
    assert isinstance(await queue.submit(held(facility, name)), Unclear)
    async with asyncio.timeout(20):
        while not (found := await batch_jobs(client, facility, name)):
            await asyncio.sleep(0.2)
    await asyncio.sleep(0.5)
    assert await batch_jobs(client, facility, name) == found
    assert len(found) == 1


async def test_faults_of_reads_raise(queue: BatchQueue, facility: Facility) -> None:
    """ERROR with HTTP 200, 502 and 429 are errors of the tree, never an empty listing."""
    for fault, error in (
        ({"kind": "error_200"}, Overloaded),
        ({"kind": "status", "code": 502}, Overloaded),
        ({"kind": "status", "code": 429, "retry_after_s": 1}, RateLimited),
    ):
        facility.admin("POST", "/_faults", **fault | {"path": "/[cu]*/perlmutter"})
        with pytest.raises(error):
            await queue.listing(facility.ready["user"])
    assert (await queue.listing(facility.ready["user"])).complete


async def test_a_command_looks_before_it_submits(client: SuperfacilityClient, facility: Facility) -> None:
    """The same submission by command again is found by its name and accepted under its id; there is one array."""
    name = named("again")
    first = await client.commands.submit(held(facility, name))
    assert isinstance(first, Accepted)
    assert await client.commands.submit(held(facility, name)) == first
    assert await batch_jobs(client, facility, name) == {int(first.job_id)}


async def test_a_name_that_is_there_twice_is_unclear(client: SuperfacilityClient, facility: Facility) -> None:
    """Two batch jobs of one name: nothing is added, and which one it is stays open."""
    name = named("twice")
    for _ in range(2):
        assert isinstance(await client.submit(held(facility, name)), Accepted)
    outcome = await client.commands.submit(held(facility, name))
    assert isinstance(outcome, Unclear) and "have the name already" in outcome.why
    assert len(await batch_jobs(client, facility, name)) == 2


async def test_a_command_executed_late_submits_nothing(client: SuperfacilityClient, facility: Facility) -> None:
    """A command that waits somewhere until void_after has passed is void over there."""
    name = named("late")
    void_after = int(time.time()) + 1
    facility.admin("POST", "/_faults", kind="late_execution", method="POST", path=COMMAND, delay_s=2.5)
    outcome = await client.commands.submit(held(facility, name, f"# nacre: void_after={void_after}"))
    assert isinstance(outcome, Unclear)
    async with asyncio.timeout(20):
        while not any(void(task.outcome) for task in await client.recent_tasks()):
            await asyncio.sleep(0.2)
    assert await batch_jobs(client, facility, name) == set()


def void(outcome: object) -> bool:
    return isinstance(outcome, Refusal) and outcome.kind is RefusalKind.VOID


async def test_slurm_away_behind_a_command(client: SuperfacilityClient, facility: Facility) -> None:
    """When the name cannot be looked for, nothing is submitted, and the refusal says so."""
    facility.admin("POST", "/_slurm", action="away")
    try:
        outcome = await client.commands.submit(held(facility, named("away")))
        assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.BUSY
        with pytest.raises(Overloaded):
            await client.commands.listing(facility.ready["user"])
    finally:
        facility.admin("POST", "/_slurm", action="back")


async def test_the_other_way_while_one_fails(
    machine: Machine, client: SuperfacilityClient, facility: Facility
) -> None:  # fmt: skip
    """Jobs endpoints that fail: listings and new submissions go by command, and come back when they work again."""
    user = facility.ready["user"]
    facility.admin("POST", "/_faults", kind="status", path="/compute/*", count=100_000, code=503)
    posts, commands = requests(facility, JOBS), requests(facility, COMMAND)
    assert (await machine.queue.listing(user)).complete
    name = named("other")
    assert isinstance(await machine.queue.submit(held(facility, name)), Accepted)
    assert (machine.queue.flavour, requests(facility, JOBS)) == ("command", posts)
    assert requests(facility, COMMAND) >= commands + 2
    assert len(await batch_jobs(client, facility, name)) == 1
    facility.admin("DELETE", "/_faults")
    async with asyncio.timeout(30):
        while (await machine.queue.listing(user)).complete and machine.queue.flavour != "jobs":
            await asyncio.sleep(0.2)
    assert isinstance(await machine.queue.submit(held(facility, named("back"))), Accepted)
    assert requests(facility, JOBS) == posts + 1


async def test_an_unclear_effect_goes_no_other_way(machine: Machine, facility: Facility) -> None:
    """A POST whose answer is lost is the answer: no command follows for it, also not when commands work."""
    assert (await machine.queue.listing(facility.ready["user"])).complete
    facility.admin("POST", "/_faults", kind="close_after", method="POST", path=JOBS, count=1)
    posts, commands = requests(facility, JOBS), requests(facility, COMMAND)
    outcome = await machine.queue.submit(held(facility, named("unclear")))
    assert isinstance(outcome, Unclear)
    assert (requests(facility, JOBS), requests(facility, COMMAND)) == (posts + 1, commands)


async def test_after_a_failure_an_effect_waits_for_a_read(machine: Machine, facility: Facility) -> None:
    """Every POST of the jobs endpoints is lost: one submission is unclear, the next goes by command once reads fail."""
    facility.admin("POST", "/_faults", kind="status", path="/compute/*", count=100_000, code=504)
    assert isinstance(await machine.queue.submit(held(facility, named("first"))), Unclear)
    posts = requests(facility, JOBS)
    assert isinstance(await machine.queue.submit(held(facility, named("second"))), Accepted)
    assert requests(facility, JOBS) == posts


async def test_nothing_leaves_while_the_facility_is_away(machine: Machine, facility: Facility) -> None:
    """While the facility says unavailable no effect leaves by any way, and reads are rare; its word ends it."""
    user = facility.ready["user"]
    facility.admin("POST", "/_status", status="unavailable")
    assert (await machine.facility.facility_status()).status == "unavailable"
    posts = requests(facility, JOBS), requests(facility, COMMAND)
    for effect in (machine.queue.submit(held(facility, named("away"))), machine.queue.cancel("1")):
        with pytest.raises(Overloaded, match="unavailable"):
            await effect
    assert (requests(facility, JOBS), requests(facility, COMMAND)) == posts
    await machine.queue.listing(user)
    with pytest.raises(Overloaded, match="unavailable"):
        await machine.queue.listing(user)
    facility.admin("POST", "/_status", status="active")
    await machine.facility.facility_status()
    assert (await machine.queue.listing(user)).complete


async def test_what_the_facility_says(machine: Machine, facility: Facility) -> None:
    """Status, planned outages and node hours by account, in our types."""
    assert (await machine.facility.facility_status()).status == "active"
    facility.admin("POST", "/_outages", start_at=1_800_000_000, end_at="2027-02-01T00:00:00+00:00")
    try:
        (outage,) = await machine.facility.planned_outages()
        assert outage.start_at == datetime(2027, 1, 15, 8, tzinfo=UTC)
    finally:
        facility.admin("DELETE", "/_outages")
    facility.admin("POST", "/_account", hours_given=1000, hours_used=250.5)
    (project,) = await machine.facility.projects()
    assert project.account == facility.ready["account"]
    assert project.cpu is not None and (project.cpu.given, project.cpu.used) == (1000.0, 250.5)


async def test_recent_tasks_say_what_became_of_an_effect(client: SuperfacilityClient, facility: Facility) -> None:
    """A submission by each way is among the tasks with its job id; what only read is not."""
    outcomes = [
        await client.submit(held(facility, named("jobs"))),
        await client.commands.submit(held(facility, named("command"))),
        await client.submit("#!/bin/bash\n#SBATCH -J nacre-f-no\n#SBATCH --nonsense\n"),
    ]
    await client.commands.listing(facility.ready["user"])
    recent = [task.outcome for task in await client.recent_tasks()]
    assert recent[-3:] == outcomes


async def test_small_files(machine: Machine, tmp_path: Path) -> None:
    """Put, list, fetch, by absolute path; what is not there is NotFound, what is too large is Refused here."""
    folder = tmp_path / "a b"
    folder.mkdir()
    path = f"{folder}/token é.sh"
    for content in (b"export A='1'\n", bytes(range(256)), b""):
        await machine.files.upload(path, content)
        assert await machine.files.download(path) == content
    (entry,) = await machine.files.ls(str(folder))
    assert (entry.name, entry.is_directory, entry.size_bytes) == ("token é.sh", False, 0)
    with pytest.raises(NotFound):
        await machine.files.download(f"{folder}/nothing")
    with pytest.raises(Refused):
        await machine.files.upload(path, b"x" * 5_242_881)
    for bad in ("relative", f"{folder}/../x", ""):
        with pytest.raises(Malformed):
            await machine.files.download(bad)


async def test_local_commands_need_no_api(facility: Facility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flavour local: the same queue and files by commands; facility and allocations are unknown, not invented."""
    monkeypatch.setenv("PATH", f"{Path(facility.ready['key_path']).parent / 'model' / 'bin'}:/usr/bin:/bin")
    here = site(facility, tmp_path, flavour="local", client_id_file=None, client_key_file=None, api_url="")
    async with connected(here, "perlmutter", 1.0) as machine:
        outcome = await machine.queue.submit(held(facility, named("local")))
        assert isinstance(outcome, Accepted)
        assert (await machine.queue.listing(facility.ready["user"])).complete
        assert isinstance(await machine.queue.cancel(outcome.job_id), Accepted)
        assert await machine.queue.recent_tasks() == ()
        assert (await machine.facility.facility_status()).status == "unknown"
        assert await machine.facility.planned_outages() == ()
        with pytest.raises(Refused, match="no facility"):
            await machine.facility.projects()
        await machine.files.upload(f"{tmp_path}/f", b"1")
        assert ((tmp_path / "f").stat().st_mode & 0o777, await machine.files.download(f"{tmp_path}/f")) == (0o600, b"1")
        assert "f" in {entry.name for entry in await machine.files.ls(str(tmp_path))}


async def test_local_commands_that_are_not_there(
    facility: Facility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sbatch on PATH the start stops with a line that says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"not on PATH: sbatch, squeue"):
        async with connected(site(facility, tmp_path, flavour="local"), "perlmutter", 1.0):
            pass
