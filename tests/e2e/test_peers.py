"""What makes the systems that do the same job lose or multiply their pilots, done to ours, end to end.

Each test names the system that fails in it. The API answers within a tenth of a second, and sacct lags behind.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus import connection
from libs.events import subjects
from libs.events.messages import JobAgent
from libs.runtime.health import Health
from tests.e2e.house import House, standing
from tests.e2e.ledgers import Verdict, verdict

pytestmark = pytest.mark.timeout(150)
JOBS = "/compute/jobs/*"
API = ("--latency-s", "0.1", "--task-delay-s", "0.2")
# Of the model's clock, which here is the wall's.
SACCT_LAG_S = 4.0
NODES = 8
REASON = "ReqNodeNotAvail, Reserved for maintenance"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all that is over in seconds."""
    facility = (*API, "--sacct-lag-s", str(SACCT_LAG_S))
    with standing(tmp_path_factory.mktemp("peers") / "house", "model", facility=facility) as house:
        yield house


@pytest.fixture
def patient_house(tmp_path: Path) -> Iterator[House]:
    """A house of its own for what takes its time."""
    with standing(tmp_path / "house", "model", facility=API) as house:
        yield house


class Counts:
    """What one test adds to the ledgers of a house that it shares."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._posts, self._agents, self._done = self._counted()

    def _counted(self) -> tuple[int, int, int]:
        log = self.house.facility("/_log")
        posts = sum(row["method"] == "POST" and row["path"].startswith("/compute/jobs/") for row in log)
        return posts, len(self.house.facility("/ledger")), self.house.central("/counts")["done"]

    @property
    def posts(self) -> int:
        return self._counted()[0] - self._posts

    @property
    def agents(self) -> int:
        return self._counted()[1] - self._agents

    @property
    def done(self) -> int:
        return self._counted()[2] - self._done


def until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def add(house: House, count: int, run_s: float = 1.0) -> None:
    house.central("/grid_jobs", {"ce": house.ce_name, "count": count, "run_s": run_s})


def until_done(counts: Counts, more: int) -> None:
    """Wait until so many grid jobs more are done, and the agents that did them have ended."""
    before = counts.done
    until(lambda: counts.done == before + more, "all grid jobs done")
    ended(counts.house)


def ended(house: House) -> None:
    """Wait until no batch job is left in Slurm; sacct may not know yet."""
    until(lambda: all(row["ended_at"] for row in house.facility("/ledger")), "every batch job ends")


def fault(house: House, kind: str, method: str = "POST", path: str = JOBS, **options: Any) -> None:
    house.facility("/_faults", {"kind": kind, "method": method, "path": path, **options})


def records(house: House) -> list[JobAgent]:
    """What the tracker has on record of every agent."""

    async def read() -> list[JobAgent]:
        async with (
            connection.connected(house.nats_url, "tests/1", Health()) as bus,
            bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents,
        ):
            await asyncio.wait_for(agents.loaded.wait(), 10)
            return [entry.record for entry in agents.entries.values()]

    return asyncio.run(read())


def states(house: House) -> list[str]:
    return [one.state for one in records(house)]


def final(house: House) -> Verdict:
    """What the world's ledgers say once no batch job is left."""
    ended(house)
    ledger = house.central("/ledger")
    return verdict(house.facility("/ledger"), ledger["grid_jobs"], ledger["agents"])


def nothing_wrong(house: House) -> None:
    found = final(house)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])


def test_504_twice(house: House) -> None:
    """sfapi_client posts three times for one submission when 504 is answered twice; ours posts once for each."""
    counts = Counts(house)
    fault(house, "late_504", count=2, delay_s=0.3)
    for _ in range(2):
        add(house, 3)
        until_done(counts, 3)
    assert (counts.posts, counts.agents) == (2, 6)
    nothing_wrong(house)


def test_api_away_while_agents_are_queued(house: House) -> None:
    """JAliEn takes a failed listing for an empty queue and fills it again; ours waits until it knows."""
    # Two minutes of a site that lists each minute are two listings; here it is five of them.
    counts = Counts(house)
    add(house, NODES + 6, run_s=6.0)
    until(lambda: counts.agents == NODES + 6, "an agent for each grid job")
    for kind, options in (("status", {"code": 503}), ("error_200", {})):
        fault(house, kind, method="*", path="/compute/*", count=100_000, **options)
        time.sleep(5)
        house.forget_faults()
    until(lambda: counts.done == NODES + 6, "all grid jobs done")
    assert counts.agents == NODES + 6
    nothing_wrong(house)


def test_killed_in_mid_submit(house: House) -> None:
    """TARDIS submits anew what it had in flight when it was killed; ours finds it by its name."""
    counts = Counts(house)
    fault(house, "slow", delay_s=3)
    add(house, 4)
    until(lambda: counts.agents == 4, "Slurm has them, and nobody was told yet")
    house.kill_service("slurm_submitter")
    house.start_service("slurm_submitter")
    until(lambda: counts.done == 4, "all grid jobs done")
    assert (counts.posts, counts.agents) == (1, 4)
    nothing_wrong(house)


def test_a_reason_with_blanks(house: House) -> None:
    """PSI/J's status freezes for all jobs while one waits for `ReqNodeNotAvail, Reserved for maintenance`."""
    counts = Counts(house)
    add(house, NODES + 2, run_s=6.0)
    until(lambda: counts.agents == NODES + 2, "an agent for each grid job")
    house.facility("/_outages", {"start_at": time.time() + 300, "end_at": time.time() + 900})
    until(lambda: any(REASON in one.reason for one in records(house)), "a reason with blanks is on record")
    until(lambda: counts.done == NODES, "what runs is seen to end all the same")
    until(lambda: states(house).count("queued") == 2, "who waits for the nodes is still queued")
    house.cancel_outages()
    until(lambda: counts.done == NODES + 2, "all grid jobs done")
    assert counts.agents == NODES + 2
    nothing_wrong(house)


def test_accounting_lag(house: House) -> None:
    """Harvester fails for all jobs while sacct has no row yet for one; ours waits for the row and loses nobody."""
    counts = Counts(house)
    for _ in range(2):
        add(house, 6)
        until_done(counts, 6)
    until(lambda: set(states(house)) == {"ended"}, "every agent is on record as ended, once sacct has told")
    assert counts.agents == 12
    nothing_wrong(house)


@pytest.mark.xdist_group("a task slower than 30 s")
def test_a_task_slower_than_30_s(patient_house: House) -> None:
    """Harvester gives a task up after 25 s and lets its pilot run untracked; ours waits, and posts nothing else."""
    house = patient_house
    counts = Counts(house)
    fault(house, "slow_task", delay_s=31)
    add(house, 3)
    until(lambda: counts.done == 3, "all grid jobs done")
    assert (counts.posts, counts.agents) == (1, 3)
    nothing_wrong(house)
