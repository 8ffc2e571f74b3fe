"""The demo's journey, disturbed: whatever is killed or goes away on the way, nothing is lost or doubled at the end."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.house import SERVICES, House, standing
from tests.e2e.ledgers import Verdict, verdict

pytestmark = pytest.mark.timeout(170)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The whole house over the model Slurm; an answer of the API takes a tenth of a second."""
    with standing(tmp_path / "house", "model", facility=("--latency-s", "0.1", "--task-delay-s", "0.3")) as house:
        yield house


def until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)


def final(house: House) -> Verdict:
    """What the world's ledgers say once no batch job is left."""
    until(lambda: all(row["ended_at"] for row in house.facility("/ledger")), "every batch job ends")
    ledger = house.central("/ledger")
    return verdict(house.facility("/ledger"), ledger["grid_jobs"], ledger["agents"])


def add(house: House, count: int) -> None:
    house.central("/grid_jobs", {"ce": house.ce_name, "count": count})


def done(house: House) -> int:
    found: int = house.central("/counts")["done"]
    return found


def test_every_service_and_nats_killed(house: House) -> None:
    """Kill -9 of each service and of NATS while grid jobs flow: each comes back, all grid jobs are done once."""
    total = 0
    for victim in [*SERVICES, "nats"]:
        add(house, 5)
        total += 5
        if victim == "nats":
            house.nats.kill()
            time.sleep(1)
            house.nats.start()
        else:
            house.kill_service(victim)
            house.start_service(victim)
    house.wait_ready(60)
    until(lambda: done(house) == total, "all grid jobs done", 100)
    found = final(house)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])


def test_api_away_answers_lost(house: House) -> None:
    """Lost answers, errors and a facility that cannot list: nothing doubled, and the journey resumes by itself."""
    jobs = "/compute/jobs/*"
    house.facility("/_faults", {"kind": "close_after", "path": jobs, "method": "POST", "count": 1})
    house.facility("/_faults", {"kind": "status", "path": jobs, "method": "GET", "count": 5, "code": 503})
    house.facility("/_faults", {"kind": "error_200", "path": jobs, "method": "GET", "count": 3})
    add(house, 12)
    until(lambda: done(house) == 12, "all grid jobs done")
    house.facility("/_faults", {"kind": "late_504", "path": jobs, "method": "POST", "count": 1, "delay_s": 1})
    add(house, 6)
    until(lambda: done(house) == 18, "all grid jobs done")
    found = final(house)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])


def test_lock_holds_everything(house: House) -> None:
    """A central lock stops submission; unlocking resumes it without a hand."""
    house.central("/lock", {"ce": house.ce_name})
    time.sleep(3)
    before = len(house.facility("/ledger"))
    add(house, 4)
    time.sleep(5)
    assert len(house.facility("/ledger")) == before
    house.central("/unlock", {"ce": house.ce_name})
    until(lambda: done(house) == 4, "all grid jobs done")
    assert final(house).wrong == []
