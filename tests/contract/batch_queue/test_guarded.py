"""The guard in front of a way: what it counts, says and keeps back; local commands in turn, local files."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.runtime.errors import Overloaded, RateLimited, Refused
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.errors import NotFound
from libs.slurm.files import FILE_LIMIT_BYTES, LocalFiles
from libs.slurm.guarded import GuardedQueue
from libs.slurm.local import LocalQueue, environment
from libs.slurm.machine_queue import MachineQueue
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from libs.slurm.rate import RateShare
from tests.contract.batch_queue.scripted import PENDING, SQUEUE, Scripted, local

SINCE = datetime(2026, 11, 23, tzinfo=UTC)
SCRIPT = "#!/bin/bash\n#SBATCH -J nacre-cpu-b\ntrue\n"


@pytest.fixture
async def slurm(tmp_path: Path) -> AsyncIterator[Scripted]:
    (tmp_path / "slurm").mkdir()
    slurm = Scripted(tmp_path / "slurm")
    yield slurm
    await slurm.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Scripted]:
    (tmp_path / "other").mkdir()
    slurm = Scripted(tmp_path / "other")
    yield slurm
    await slurm.close()


def guarded(queue: BatchQueue, flavour: str = "local") -> GuardedQueue:
    return GuardedQueue(queue, machine="perlmutter", flavour=flavour, user="alicepro")


def calls(slurm: Scripted, program: str) -> int:
    return sum(call.split()[0] == program for call in slurm.calls())


async def test_unknown_words_are_said_whole_once(slurm: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """Words that the table does not know, refused or unclear, come whole into the log, each once."""
    queue = guarded(local(slurm))
    unknown = "sbatch: error: the moon is full\nsbatch: error: Batch job submission failed: Unspecified error"
    slurm.says("sbatch", error=unknown, code=1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            outcome = await queue.submit(SCRIPT)
            assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.OTHER
        slurm.says("sbatch", error="what?", code=1)
        assert isinstance(await queue.submit(SCRIPT), Unclear)
    said = [record.getMessage() for record in caplog.records]
    assert [unknown in text for text in said] == [True, False]
    assert "what?" in said[1]


async def test_after_an_unclear_effect_a_read_goes_first(slurm: Scripted) -> None:
    """The next effect of whatever kind leaves when squeue has answered, and not when it has not."""
    queue = guarded(local(slurm))
    slurm.says("sbatch", error="Socket timed out on send/recv operation", code=1)
    assert isinstance(await queue.submit(SCRIPT), Unclear)
    slurm.says("squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1)
    for effect in (queue.submit(SCRIPT), queue.cancel("16"), queue.cancel_all(["16", "17"])):
        with pytest.raises(Overloaded):
            await effect
    assert (calls(slurm, "sbatch"), calls(slurm, "scancel")) == (1, 0)
    slurm.says("squeue")
    slurm.says("sbatch", "16\n")
    async with asyncio.timeout(10):
        while True:
            try:
                assert await queue.submit(SCRIPT) == Accepted(job_id="16")
                break
            except Overloaded:
                await asyncio.sleep(0.1)
    assert await queue.cancel_all(["16", "17"]) == {"16": Accepted(job_id="16"), "17": Accepted(job_id="17")}


async def test_an_open_breaker_asks_nobody(slurm: Scripted) -> None:
    """After failures in a row squeue is not started again before the pause is over."""
    queue = guarded(local(slurm))
    slurm.says("squeue", code=1)
    for _ in range(8):
        with pytest.raises(Overloaded):
            await queue.listing("alicepro")
    assert calls(slurm, "squeue") <= 4


async def test_the_second_way_makes_a_listing_whole(slurm: Scripted, other: Scripted) -> None:
    """A listing that is not complete by the first way is taken from the second; without help it stays what it is."""
    queue = MachineQueue("perlmutter", [guarded(local(slurm), "first"), guarded(local(other), "second")])
    slurm.lists("squeue", SQUEUE, PENDING | {"array_task_id": "0,2-3,...,108-109,1..."})
    other.lists("squeue", SQUEUE, PENDING)
    listing = await queue.listing("alicepro")
    assert (listing.complete, queue.flavour) == (True, "second")
    other.says("squeue", code=1)
    listing = await queue.listing("alicepro")
    assert not listing.complete and "cut short" in listing.why_not
    slurm.lists("squeue", SQUEUE, PENDING)
    listing = await queue.listing("alicepro")
    assert (listing.complete, queue.flavour) == (True, "first")
    for one in (slurm, other):
        one.says("sacct", error="sacct: error: Problem talking to the database", code=1)
    with pytest.raises(Overloaded):
        await queue.accounting("alicepro", since=SINCE)


async def test_no_way_helps_against_a_refusal(slurm: Scripted, other: Scripted) -> None:
    """What is refused by the first way is not asked for by the second."""
    queue = MachineQueue("perlmutter", [guarded(local(slurm), "first"), guarded(local(other), "second")])
    slurm.says("squeue", error="squeue: error: Access/permission denied", code=1)
    with pytest.raises(Refused):
        await queue.listing("alicepro")
    assert other.calls() == []


async def test_nothing_works(slurm: Scripted, other: Scripted) -> None:
    """When no way works the first way's error is raised, and no effect has left."""
    queue = MachineQueue("perlmutter", [guarded(local(slurm), "first"), guarded(local(other), "second")])
    for number, one in enumerate((slurm, other)):
        one.says("squeue", error=f"failure {number}", code=1)
    for _ in range(2):
        with pytest.raises(Overloaded, match="failure 0"):
            await queue.listing("alicepro")
    with pytest.raises(Overloaded):
        await queue.submit(SCRIPT)
    assert calls(slurm, "sbatch") + calls(other, "sbatch") == 0


async def test_local_commands_take_turns(slurm: Scripted) -> None:
    """Beyond the share of the rate a command waits, and one that would wait too long is told so at once."""
    queue = LocalQueue(slurm.variables, share=RateShare(0.1, burst=1, patience_s=1.0))
    assert (await queue.listing("alicepro")).complete
    with pytest.raises(RateLimited):
        await queue.submit(SCRIPT)
    assert calls(slurm, "sbatch") == 0


async def test_nothing_of_ours_goes_into_a_batch_job(slurm: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch hands its environment to the job: it has no variable of ours, nor one that overrides the script."""
    for name in ("NACRE_NATS_URL", "SBATCH_ACCOUNT", "SQUEUE_USERS", "SECRET"):
        monkeypatch.setenv(name, "x")
    (slurm.folder / "sbatch").write_text(f"#!/bin/sh\ncat > /dev/null\nenv > {slurm.folder}/env\necho 16\n")
    queue = LocalQueue(environment() | slurm.variables)
    assert await queue.submit(SCRIPT) == Accepted(job_id="16")
    names = {line.partition("=")[0] for line in (slurm.folder / "env").read_text().splitlines()}
    assert names.isdisjoint({"NACRE_NATS_URL", "SBATCH_ACCOUNT", "SQUEUE_USERS", "SECRET", "TZ"})


async def test_local_files_that_cannot_be_had(tmp_path: Path) -> None:
    """Not there, a directory, too large: each its error; what is in place stays when a new one does not come."""
    files = LocalFiles()
    with pytest.raises(NotFound):
        await files.ls(f"{tmp_path}/nothing")
    for wrong in (files.download(str(tmp_path)), files.upload(str(tmp_path), b"1")):
        with pytest.raises((Refused, Overloaded)):
            await wrong
    large = tmp_path / "large"
    large.write_bytes(b"x" * (FILE_LIMIT_BYTES + 1))
    with pytest.raises(Refused):
        await files.download(str(large))
    assert [entry.size_bytes for entry in await files.ls(str(large))] == [FILE_LIMIT_BYTES + 1]
    with pytest.raises(NotFound):
        await files.upload(f"{tmp_path}/no/such/place", b"1")
    assert [entry.name for entry in await files.ls(str(tmp_path))] == ["large"]
