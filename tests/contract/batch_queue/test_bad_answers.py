"""Bad answers by every way: nothing is believed that is not whole, nothing is accepted on a guess."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.runtime import clock
from libs.runtime.errors import NacreError, Unreachable
from libs.slurm.access import ApiClientKey
from libs.slurm.batch_queue import BatchQueue, Listing
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.superfacility import Endpoint
from libs.slurm.transport import Bounds
from tests.contract.batch_queue.scripted import ENDED, PENDING, SACCT, SQUEUE, Scripted, by_api, local

SINCE = datetime(2026, 11, 23, tzinfo=UTC)
SCRIPT = "#!/bin/bash\n#SBATCH -J nacre-cpu-b\ntrue\n"
FLAVOURS = ("jobs", "command", "local")
PEM = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.fixture
async def slurm(tmp_path: Path) -> AsyncIterator[Scripted]:
    (tmp_path / "slurm").mkdir()
    slurm = Scripted(tmp_path / "slurm")
    yield slurm
    await slurm.close()


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def queue(flavour: str, slurm: Scripted, tmp_path: Path) -> AsyncIterator[BatchQueue]:
    """One way to the scripted Slurm."""
    async with way(flavour, slurm, tmp_path, patience_s=30.0) as queue:
        yield queue


@pytest.fixture
async def impatient(flavour: str, slurm: Scripted, tmp_path: Path) -> AsyncIterator[BatchQueue]:
    """The same with short patience."""
    async with way(flavour, slurm, tmp_path, patience_s=1.5) as queue:
        yield queue


@contextlib.asynccontextmanager
async def way(flavour: str, slurm: Scripted, tmp_path: Path, *, patience_s: float) -> AsyncIterator[BatchQueue]:
    (tmp_path / "id").write_text("abcdefghijklm")
    (tmp_path / "key").write_bytes(PEM)
    endpoint = Endpoint(
        machine="perlmutter",
        api_url="https://api.test",
        token_url="https://api.test/token",
        key=ApiClientKey(client_id_file=tmp_path / "id", client_key_file=tmp_path / "key"),
        user_agent="nacre/0",
        rate_per_s=1000.0,
        task_poll_s=0.02,
        task_patience_s=patience_s,
        bounds=Bounds(answer_bytes=100_000),
    )
    client, http = by_api(slurm, endpoint)
    ways: dict[str, BatchQueue] = {
        "jobs": client, "command": client.commands, "local": local(slurm, total_s=patience_s),
    }  # fmt: skip
    async with http:
        yield ways[flavour]


async def believed(queue: BatchQueue) -> Listing | None:
    """A listing that may be counted; None when there was an error or it says itself that it is not whole."""
    try:
        listing = await queue.listing("alicepro")
    except NacreError:
        return None
    return listing if listing.complete else None


async def test_blanks_and_bars_in_free_texts(queue: BatchQueue, slurm: Scripted) -> None:
    """A reason with blanks, and a bar in a comment, shift nothing."""
    slurm.lists(
        "squeue",
        SQUEUE,
        PENDING | {"reason": "ReqNodeNotAvail, Reserved for maintenance", "comment": "a|b c|d"},
        PENDING | {"array_job_id": "9", "array_task_id": "N/A", "user": "somebody"},
    )
    listing = await queue.listing("alicepro")
    assert listing.complete
    [row] = listing.rows
    assert (row.reason, row.comment) == ("ReqNodeNotAvail, Reserved for maintenance", "a|b c|d")
    assert (row.indices, row.name, row.submitted_at) == ((0, 1, 2), "nacre-cpu-a", SINCE.replace(hour=3))


async def test_duplicate_names_are_all_listed(queue: BatchQueue, slurm: Scripted) -> None:
    """Two batch jobs of one name are two rows: who is the double is not for the listing to say."""
    slurm.lists("squeue", SQUEUE, PENDING, PENDING | {"array_job_id": "8"})
    listing = await queue.listing("alicepro", names=["nacre-cpu-a"])
    assert listing.complete
    assert [row.array_job_id for row in listing.rows] == [7, 8]


@pytest.mark.parametrize(
    "wrong",
    [
        {"array_job_id": "many"},
        {"array_job_id": ""},
        {"state": "Priority"},
        {"array_task_id": "0-"},
        {"array_task_id": "0,2-3,...,108-109,1..."},
        {"submit_time": "yesterday"},
        {"array_task_id": "0-99999999"},
    ],
    ids=str,
)
async def test_one_wrong_row_spoils_the_listing(queue: BatchQueue, slurm: Scripted, wrong: dict[str, str]) -> None:
    """An id that is no number, a shifted column, a cut list: the listing is not complete, and says which row."""
    slurm.lists("squeue", SQUEUE, PENDING | wrong, PENDING | {"array_job_id": "8"})
    listing = await queue.listing("alicepro")
    assert not listing.complete
    assert "squeue row" in listing.why_not


async def test_a_row_of_the_wrong_shape(queue: BatchQueue, slurm: Scripted) -> None:
    """A row that ends early is not read as one with empty columns."""
    short = {column: PENDING[column] for column in SQUEUE[:6]}
    slurm.lists("squeue", SQUEUE, short)
    assert await believed(queue) is None
    slurm.lists("sacct", SACCT, {column: ENDED[column] for column in SACCT[:4]})
    assert not (await queue.accounting("alicepro", since=SINCE)).complete


@pytest.mark.parametrize(
    "raw", [b"<html>502</html>", b'{"status": "OK", "output": [{"array_job', b"[]", b"\xff\xfe", b"x" * 200_000]
)
async def test_an_answer_that_is_no_listing(queue: BatchQueue, slurm: Scripted, raw: bytes) -> None:
    """Not JSON, cut, of another shape, not text, or huge: never a listing that may be counted, nor an empty one."""
    slurm.raw = raw
    (slurm.folder / "squeue.output").write_bytes(raw)
    assert await believed(queue) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", 1),
        ("squeue: error: Invalid user: alicepro\n", 0),
        ("", 1),
    ],
)
async def test_a_failed_squeue_is_not_an_empty_one(
    queue: BatchQueue, slurm: Scripted, flavour: str, error: str, code: int
) -> None:
    """No controller, no such user (with exit code 0!), or no word at all: an error, never no jobs."""
    slurm.says("squeue", error=error, code=code)
    slurm.raw = b'{"status": "ERROR", "output": [], "error": "Unable to contact slurm controller"}'
    with pytest.raises(NacreError):
        await queue.listing("alicepro")


@pytest.mark.parametrize("output", ["many", "", "12a", "99999999999", "-5", "\u0661\u0662"], ids=repr)
async def test_an_id_that_is_no_number_is_unclear(queue: BatchQueue, slurm: Scripted, output: str) -> None:
    """sbatch succeeded, but what it says is no job id: it may have one all the same."""
    slurm.says("sbatch", f"{output}\n")
    assert isinstance(await queue.submit(SCRIPT), Unclear)
    assert sum(call.startswith("sbatch") for call in slurm.calls()) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification\n", RefusalKind.QOS),
        ("sbatch: error: Your account has exceeded a file system quota and is not permitted ...\n", RefusalKind.QUOTA),
        ("sbatch: error: Job cost estimated at 64.00 node hours, your balance is 3.00\n", RefusalKind.ALLOCATION),
        ("sbatch: error: Batch job submission failed: Something new\n", RefusalKind.OTHER),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", None),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)\n", None),
        ("what?\n", None),
        ("", None),
    ],
)
async def test_failures_of_sbatch_by_their_words(
    queue: BatchQueue, slurm: Scripted, error: str, expected: RefusalKind | None
) -> None:
    """Refused only in words that say so; a lost answer of slurmctld's, unknown words and silence are unclear."""
    slurm.says("sbatch", error=error, code=1)
    outcome = await queue.submit(SCRIPT)
    if expected is None:
        assert isinstance(outcome, Unclear)
        assert outcome.unknown_text == ("what?" if "what?" in error else "")
    else:
        assert isinstance(outcome, Refusal) and outcome.kind is expected
        assert outcome.text == error.strip()


async def test_a_submission_that_never_ends_is_unclear(impatient: BatchQueue, slurm: Scripted) -> None:
    """The wait has a bound, sbatch was started once, and it may have been heard."""
    slurm.says("sbatch", "16\n", sleep_s=4)
    async with asyncio.timeout(10):
        assert isinstance(await impatient.submit(SCRIPT), Unclear)
    assert sum(call.startswith("sbatch") for call in slurm.calls()) <= 1


async def test_a_cancel_that_fails(queue: BatchQueue, slurm: Scripted) -> None:
    """Each id has its outcome; one that cannot be an id never reaches a command line."""
    slurm.says("scancel", error="scancel: error: Kill job error on job id 16: Access/permission denied\n", code=1)
    outcomes = await queue.cancel_all(["16", "17_3", "$(reboot)", "16_[1-3]", ""])
    kinds: dict[str, RefusalKind] = {
        job_id: one.kind for job_id, one in outcomes.items() if isinstance(one, Refusal)
    }  # fmt: skip
    assert kinds == {
        "16": RefusalKind.AUTHENTICATION, "17_3": RefusalKind.AUTHENTICATION, "$(reboot)": RefusalKind.REQUEST,
        "16_[1-3]": RefusalKind.REQUEST, "": RefusalKind.REQUEST,
    }  # fmt: skip
    assert not any("reboot" in call for call in slurm.calls())


async def test_a_clock_that_jumps(queue: BatchQueue, slurm: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set a year back or forth stops no read; a script whose time is over by it is not submitted."""
    slurm.lists("squeue", SQUEUE, PENDING)
    slurm.says("sbatch", "16\n")
    dated = SCRIPT.replace("true", f"# nacre: void_after={int(time.time()) + 600}\ntrue")
    for days in (-365, 0, 365):
        jumped = datetime.now(UTC) + timedelta(days=days)
        monkeypatch.setattr(clock, "now", lambda jumped=jumped: jumped)
        listing = await queue.listing("alicepro")
        assert (listing.complete, listing.listed_at) == (True, jumped)
        slurm.lists("squeue", SQUEUE)
        outcome: Outcome = await queue.submit(dated)
        slurm.lists("squeue", SQUEUE, PENDING)
        assert isinstance(outcome, Refusal if days > 0 else Accepted), outcome


async def test_a_huge_script_does_not_leave(queue: BatchQueue, slurm: Scripted) -> None:
    """A script beyond the bound is refused here."""
    outcome = await queue.submit(SCRIPT + "#" * 1_000_001)
    assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.SCRIPT
    assert (slurm.posts, slurm.calls()) == (0, [])


async def test_a_name_that_is_none_does_not_leave(queue: BatchQueue, slurm: Scripted, flavour: str) -> None:
    """A user or a name that a shell could read otherwise never reaches a command line."""
    for user, names in (("alicepro;reboot", []), ("alicepro", ["a b"]), ("-u", ["x"]), ("alicepro", ["a,b"])):
        if flavour != "jobs":
            with pytest.raises(NacreError):
                await queue.listing(user, names=names)
    assert not any("reboot" in call for call in slurm.calls())


async def test_a_read_that_never_ends(slurm: Scripted) -> None:
    """A squeue that hangs is ended with all that it started, and is unreachable, not empty."""
    child = slurm.folder / "child"
    (slurm.folder / "squeue").write_text(f"#!/bin/sh\nsleep 30 &\necho $! > {child}\nwait\n")
    with pytest.raises(Unreachable):
        await local(slurm, total_s=0.5).listing("alicepro")
    async with asyncio.timeout(5):
        while is_running(child):
            await asyncio.sleep(0.05)


def is_running(pid_file: Path) -> bool:
    """Whether the process is there and more than a name to be reaped."""
    about = Path(f"/proc/{pid_file.read_text().strip()}/cmdline")
    return about.exists() and bool(about.read_bytes())
