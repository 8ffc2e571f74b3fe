"""The submitter on a real NATS and the API over the model Slurm; the test plays poller and tracker."""

import argparse
import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import (
    BatchQueueObserved,
    CentralLimits,
    DemandObserved,
    JobAgent,
    Submission,
    SubmissionDecided,
)
from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.run import Context
from libs.runtime.site import Batch, Machine
from services.slurm_submitter.service import serve
from tests.nats_server import NatsServer
from tests.unit.slurm_submitter.sites import a_ce, a_site
from tests.world.processes import start

pytestmark = pytest.mark.timeout(90)


class Stage:
    """What the test does in place of the other services, and what it looks at."""

    def __init__(self, bus: Bus, api: dict[str, Any], context: Context) -> None:
        self.bus = bus
        self.api = api
        self.context = context
        self.decisions: list[SubmissionDecided] = []

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.api["admin_url"] + path, data=data, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def posts(self) -> int:
        return sum(row["method"] == "POST" and "/compute/jobs" in row["path"] for row in self.ask("/_log"))

    async def demand(self, waiting: int | None, **changes: Any) -> None:
        message = DemandObserved(
            at=clock.now(),
            by="queue_poller/1",
            ce="cpu",
            waiting=waiting,
            limits=CentralLimits(max_jobs=100, max_queued=50),
        )
        await self.bus.publish(subjects.DEMAND_OBSERVED, "cpu", msgspec.structs.replace(message, **changes))

    async def listing(self, queued: int | None = 0, **changes: Any) -> None:
        now = clock.now()
        message = BatchQueueObserved(
            at=now,
            by="status_tracker/1",
            ce="cpu",
            machine="perlmutter",
            listed_at=now,
            queued=queued,
            running=0,
            unaccounted=0,
            strangers=0,
            user_jobs_by_qos={"regular": queued or 0},
        )
        await self.bus.publish(subjects.BATCH_QUEUE_OBSERVED, "cpu", msgspec.structs.replace(message, **changes))

    async def record_agents(self, submission: Submission) -> None:
        """What the tracker writes when it sees a submission listed."""
        bucket = self.bus.bucket(subjects.JOB_AGENTS_BUCKET)
        for index in range(submission.agents):
            agent = JobAgent(
                agent=f"{submission.name}.{index}",
                submission=submission.name,
                index=index,
                ce="cpu",
                machine="perlmutter",
                state="queued",
                first_listed_at=clock.now(),
                job_id=f"77_{index}",
            )
            await bucket.write(agent.agent, agent, 0)

    async def submissions(self) -> list[Submission]:
        async with self.bus.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
            await asyncio.wait_for(mirror.loaded.wait(), 10)
            return sorted((entry.record for entry in mirror.entries.values()), key=lambda one: one.intended_at)

    async def decided(
        self, waits_for: Callable[[SubmissionDecided], bool], timeout_s: float = 15.0
    ) -> SubmissionDecided:
        """The next decision of that kind."""
        async with asyncio.timeout(timeout_s):
            while True:
                if self.decisions and waits_for(self.decisions[-1]):
                    return self.decisions[-1]
                await asyncio.sleep(0.02)

    async def until(self, holds: Callable[[list[Submission]], bool], timeout_s: float = 20.0) -> list[Submission]:
        """The submissions once they are so."""
        found: list[Submission] = []
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(found := await self.submissions()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"submissions are {found}; the last decision was {self.decisions[-1:]}")
        return found


def states(found: list[Submission]) -> list[str]:
    return [one.state for one in found]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The Superfacility API over the model Slurm."""
    with start("tests.world.superfacility", "--state", str(tmp_path / "facility"), "--slurm", "model") as (_, ready):
        yield ready


@pytest.fixture
async def stage(tmp_path: Path, api: dict[str, Any], bus: Bus, nats_server: NatsServer) -> AsyncIterator[Stage]:
    """A submitter's context for a site of one CE, ten seconds until void, and the journal followed."""
    (tmp_path / "client_id").write_text(api["client_id"])
    machine = Machine(
        api_url=api["api_base_url"],
        token_url=api["token_url"],
        client_id_file=tmp_path / "client_id",
        client_key_file=Path(api["key_path"]),
        user=api["user"],
        time_zone="UTC",
        requests_per_s=50,
        settle_time_s=3,
        listing_lag_s=1,
    )
    batch = Batch(account=api["account"], qos="regular", directory=str(tmp_path), output=str(tmp_path / "%x.%a.out"))
    site = msgspec.structs.replace(
        a_site(), machine={"perlmutter": machine}, ce={"cpu": a_ce(batch=batch, decision_interval_s=0.5)}
    )
    context = Context("slurm_submitter", "one", site, nats_server.url, argparse.Namespace())
    stage = Stage(bus, api, context)
    stop = asyncio.Event()

    async def follow() -> None:
        async for delivery in bus.deliveries(subjects.SUBMISSION_DECIDED, "test", stop):
            stage.decisions.append(delivery.decoded())
            with contextlib.suppress(Transient):  # a test kills NATS; the decision comes again
                await delivery.done()

    following = asyncio.create_task(follow())
    yield stage
    stop.set()
    await following


@contextlib.asynccontextmanager
async def submitting(stage: Stage) -> AsyncIterator[None]:
    """The submitter, in this process."""
    stage.context.stop.clear()
    task = asyncio.create_task(serve(stage.context))
    try:
        yield
    finally:
        stage.context.stop.set()
        await asyncio.wait_for(task, 30)


async def test_demand_becomes_one_array(stage: Stage) -> None:
    """Five waiting grid jobs are one POST of five agents; the same observations submit nothing more."""
    async with submitting(stage):
        await stage.listing()
        await stage.demand(5)
        found = await stage.until(lambda found: states(found) == ["accepted"])
        await stage.decided(lambda decided: decided.submit == 0 and decided.inputs.unlisted == 5)
        await stage.listing()
        await asyncio.sleep(1.2)
    assert (found[0].agents, stage.posts()) == (5, 1)
    rows = stage.ask("/ledger")
    assert {row["name"] for row in rows} == {found[0].name}
    assert sorted(row["index"] for row in rows) == [0, 1, 2, 3, 4]
    assert rows[0]["comment"] == f"nacre:name={found[0].name},replaces=-"


UNKNOWN: list[tuple[str, Callable[[Stage], Awaitable[None]], str]] = [
    ("demand", lambda stage: stage.demand(None, limits=None, unknown_because="no answer"), "unknown_demand"),
    ("listing", lambda stage: stage.listing(queued=None, unknown_because="HTTP 503"), "unknown_batch_queue"),
    ("locked", lambda stage: stage.demand(None, limits=None, locked=True), "locked"),
]


@pytest.mark.parametrize(("worsen", "bound"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
async def test_nothing_on_unknown(stage: Stage, worsen: Callable[[Stage], Awaitable[None]], bound: str) -> None:
    """An unknown demand or listing, or a lock, submits nothing and says why; it goes on by itself afterwards."""
    if bound == "unknown_batch_queue":
        await stage.demand(5)
    else:
        await stage.listing()
    await worsen(stage)
    async with submitting(stage):
        await stage.decided(lambda decided: decided.bound == bound)
        assert await stage.submissions() == []
        await stage.demand(2)
        await stage.listing()
        await stage.until(lambda found: states(found) == ["accepted"])
    assert stage.posts() == 1


async def test_rubbish_on_the_bus(stage: Stage) -> None:
    """Bytes that are no message are ignored; the last good value stands."""
    async with submitting(stage):
        for topic in (subjects.DEMAND_OBSERVED, subjects.BATCH_QUEUE_OBSERVED):
            await stage.bus.js.publish(topic.subject("cpu"), b"\xff{rubbish")
        await stage.listing()
        await stage.demand(1)
        await stage.until(lambda found: states(found) == ["accepted"])


async def test_lost_answer_is_adopted(stage: Stage) -> None:
    """The connection closes after Slurm took the jobs: unclear, no second POST, adopted when the tracker lists them."""
    stage.ask("/_faults", {"kind": "close_after", "path": "/compute/jobs/*", "method": "POST", "count": 1})
    async with submitting(stage):
        await stage.listing()
        await stage.demand(3)
        found = await stage.until(lambda found: states(found) == ["unclear"])
        await asyncio.sleep(1)
        assert stage.posts() == 1
        await stage.record_agents(found[0])
        await stage.listing(queued=3)
        found = await stage.until(lambda found: states(found) == ["adopted"])
        assert found[0].job_id == "77"
        await stage.listing(queued=3)
        await asyncio.sleep(1)
    assert stage.posts() == 1


async def test_never_listed_is_abandoned(stage: Stage) -> None:
    """An unclear submission that no listing shows until it would be void is given up, not sooner."""
    stage.ask("/_faults", {"kind": "status", "path": "/compute/jobs/*", "method": "POST", "count": 1, "code": 504})
    async with submitting(stage):
        await stage.listing()
        await stage.demand(2)
        first = (await stage.until(lambda found: states(found) == ["unclear"]))[0]
        last_chance = first.void_after + timedelta(seconds=1)
        while clock.now() < last_chance - timedelta(seconds=0.5):
            await stage.listing()
            assert states(await stage.submissions()) == ["unclear"]
            await asyncio.sleep(0.3)
        await asyncio.sleep((last_chance - clock.now()).total_seconds() + 0.1)
        await stage.listing()
        await stage.until(lambda found: states(found) == ["abandoned"])
        await stage.decided(lambda decided: decided.bound == "backing_off")


async def test_refusal_is_kept_whole_and_backs_off(stage: Stage) -> None:
    """A refusal of Slurm is recorded with its words; the next try waits."""
    wrong = msgspec.structs.replace(stage.context.site.ce["cpu"].batch, account="no-such-account")
    ce = msgspec.structs.replace(stage.context.site.ce["cpu"], batch=wrong)
    stage.context.site = msgspec.structs.replace(stage.context.site, ce={"cpu": ce})
    async with submitting(stage):
        await stage.listing()
        await stage.demand(2)
        found = await stage.until(lambda found: states(found) == ["refused"])
        decided = await stage.decided(lambda decided: decided.bound == "backing_off")
    assert "nvalid account" in found[0].why
    assert "the next try is in" in decided.why
    assert stage.posts() == 1


async def test_api_away_leaves_nothing_behind(stage: Stage) -> None:
    """A POST that could not leave is given up at once, not unclear; nothing is in Slurm."""
    away = msgspec.structs.replace(stage.context.site.machine["perlmutter"], api_url="http://127.0.0.1:1/api/v1.2")
    stage.context.site = msgspec.structs.replace(stage.context.site, machine={"perlmutter": away})
    async with submitting(stage):
        await stage.listing()
        await stage.demand(2)
        found = await stage.until(lambda found: states(found) == ["abandoned"])
    assert found[0].why.startswith("never sent")
    assert stage.ask("/ledger") == []


async def test_restart_does_not_submit_again(stage: Stage) -> None:
    """A new instance finds what the old one submitted, also an intent without an outcome."""
    async with submitting(stage):
        await stage.listing()
        await stage.demand(4)
        await stage.until(lambda found: states(found) == ["accepted"])
    now: datetime = clock.now()
    cut_off = Submission(
        name="nacre-cpu-cut-off",
        ce="cpu",
        machine="perlmutter",
        agents=1,
        state="intended",
        intended_at=now,
        changed_at=now,
        void_after=now + timedelta(seconds=60),
        fence=1,
        qos="regular",
    )
    await stage.bus.bucket(subjects.SUBMISSIONS_BUCKET).write(cut_off.name, cut_off, 0)
    async with submitting(stage):
        await stage.demand(5)
        await stage.listing()
        decided = await stage.decided(lambda decided: decided.inputs.waiting == 5)
        # What was open is settled before anything is decided.
        assert sorted(states(await stage.submissions())) == ["accepted", "unclear"]
    assert decided.inputs.unlisted == 5
    assert stage.posts() == 1


async def test_nats_killed_between_decisions(stage: Stage, nats_server: NatsServer) -> None:
    """After kill -9 and restart of NATS the submitter goes on with what is on record; nothing is submitted twice."""
    async with submitting(stage):
        await stage.listing()
        await stage.demand(2)
        await stage.until(lambda found: states(found) == ["accepted"])
        nats_server.kill()
        await asyncio.sleep(1)
        nats_server.start()
        async with asyncio.timeout(20):
            while not stage.bus.is_connected:
                await asyncio.sleep(0.1)
        await stage.demand(3)
        await stage.listing()
        found = await stage.until(lambda found: states(found) == ["accepted", "accepted"], 40)
        assert [one.agents for one in found] == [2, 1]
    assert stage.posts() == 2


async def test_a_ce_in_shadow_mode_is_journalled_and_nothing_is_posted(stage: Stage) -> None:
    """The journal says what would have been submitted; active again, the same demand is."""
    active = stage.context.site
    shadow = msgspec.structs.replace(active.ce["cpu"], mode="shadow")
    stage.context.site = msgspec.structs.replace(active, ce={"cpu": shadow})
    async with submitting(stage):
        await stage.listing()
        await stage.demand(5)
        decided = await stage.decided(lambda decided: decided.bound == "shadow")
        await asyncio.sleep(1.2)
    assert (decided.submit, decided.limits["demand"], "5 submitted" in decided.why) == (0, 5, True)
    assert (stage.posts(), await stage.submissions()) == (0, [])
    stage.context.site = active
    async with submitting(stage):
        await stage.until(lambda found: states(found) == ["accepted"])
