"""The house over time: demand that rises and falls, locks, limits, an API away, central services restarted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.house import House, standing
from tests.e2e.ledgers import verdict
from tests.e2e.timeline import Timeline, between

pytestmark = pytest.mark.timeout(170)
MAX_QUEUED = 4


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house over the model Slurm, at most four agents queued; timelines follow each other in it."""
    with standing(tmp_path_factory.mktemp("timelines") / "house", "model", max_queued=MAX_QUEUED) as house:
        yield house


def add(house: House, count: int, run_s: float = 1.0) -> Callable[[], Any]:
    return lambda: house.central("/grid_jobs", {"ce": house.ce_name, "count": count, "run_s": run_s})


def done(house: House) -> Callable[[], int]:
    return lambda: int(house.central("/counts")["done"])


def agents(house: House) -> Callable[[], list[dict[str, Any]]]:
    return lambda: list(house.facility("/ledger"))


def pending(rows: list[dict[str, Any]]) -> int:
    return sum(row["state"] == "PENDING" for row in rows)


def nothing_wrong(house: House) -> None:
    """Lost 0, doubled 0 by the world's ledgers."""
    ledger = house.central("/ledger")
    assert verdict(house.facility("/ledger"), ledger["grid_jobs"], ledger["agents"]).wrong == []


def test_demand_rises_and_falls_to_zero(house: House) -> None:
    """Agents follow the demand within seconds, never more of them queued than the limit, none when it is gone."""
    before, so_far = len(agents(house)()), done(house)()
    line = Timeline()
    line.at(1, add(house, 3))
    line.want(between(1, 6), "three agents for three grid jobs", agents(house), lambda rows: len(rows) == before + 3)
    line.want(between(2, 12), "three grid jobs done", done(house), lambda count: count == so_far + 3)
    line.at(12, add(house, 20, run_s=2.0))
    line.want(between(12, 18), "more agents for more demand", agents(house), lambda rows: len(rows) > before + 3)
    line.never(between(0, 38), "more queued than max_queued", agents(house), lambda rows: pending(rows) > MAX_QUEUED)
    line.want(between(14, 38), "twenty more done", done(house), lambda count: count == so_far + 23)
    line.run()
    ended = len(agents(house)())
    quiet = Timeline()
    quiet.never(between(0, 6), "an agent without demand", agents(house), lambda rows: len(rows) > ended)
    quiet.run()
    nothing_wrong(house)


def test_lock_and_limits(house: House) -> None:
    """A locked CE gets no agents; with max_jobs 2 never more than two are active; opened wide, the rest follows."""
    before, so_far = len(agents(house)()), done(house)()

    def limits(jobs: int) -> Callable[[], Any]:
        return lambda: house.central("/limits", {"ce": house.ce_name, "max_jobs": jobs, "max_queued": MAX_QUEUED})

    def active(rows: list[dict[str, Any]]) -> int:
        return sum(row["ended_at"] is None for row in rows)

    line = Timeline()
    line.at(0, lambda: house.central("/lock", {"ce": house.ce_name}))
    line.at(3, add(house, 6, run_s=2.0))
    line.never(between(3, 9), "an agent while locked", agents(house), lambda rows: len(rows) > before)
    line.at(9, limits(2))
    line.at(9.5, lambda: house.central("/unlock", {"ce": house.ce_name}))
    line.want(between(9.5, 16), "agents after the lock", agents(house), lambda rows: len(rows) > before)
    line.never(between(9.5, 22), "more active than max_jobs", agents(house), lambda rows: active(rows) > 2)
    line.at(22, limits(100))
    line.want(between(12, 40), "all six done", done(house), lambda count: count == so_far + 6)
    line.run()
    nothing_wrong(house)


def test_api_away_for_thirty_seconds(house: House) -> None:
    """While the API answers 503 nothing is submitted; when it is back the journey goes on by itself, once each."""
    before, so_far = len(agents(house)()), done(house)()
    away = {"kind": "status", "path": "/[cu]*/perlmutter*", "count": 100_000, "code": 503}
    line = Timeline()
    line.at(0, lambda: house.facility("/_faults", away))
    line.at(2, add(house, 4))
    line.never(between(0, 30), "an agent while the API is away", agents(house), lambda rows: len(rows) > before)
    line.at(30, house.forget_faults)
    line.want(between(30, 50), "agents when it is back", agents(house), lambda rows: len(rows) == before + 4)
    line.want(between(30, 60), "all four done", done(house), lambda count: count == so_far + 4)
    line.run()
    nothing_wrong(house)


def test_central_services_restarted(house: House) -> None:
    """Killed with demand pending and back ten seconds later: what waited is done, nothing twice."""
    so_far = done(house)()

    def kill() -> None:
        house.world["central_services"].kill()
        house.stop_world("central_services")

    line = Timeline()
    line.at(0, add(house, 5, run_s=3.0))
    line.at(2, kill)
    line.at(12, house.restart_central_services)
    line.want(between(13, 45), "all five done", done(house), lambda count: count == so_far + 5)
    line.run()
    nothing_wrong(house)
