"""The loop of every reconciler."""

import asyncio
import itertools

import pytest

from libs.runtime.errors import Misconfigured, Unreachable
from libs.runtime.health import Health
from libs.runtime.reconcile import reconcile


async def test_wakes_by_timer_and_event_and_stops() -> None:
    """A step at once, one for each wake, none after stop."""
    stop, wake, health = asyncio.Event(), asyncio.Event(), Health()
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    loop = asyncio.create_task(reconcile("x", step, every_s=60.0, stop=stop, health=health, wake=wake))
    for expected in (1, 2, 3):
        await asyncio.sleep(0.02)
        assert steps == expected
        wake.set()
    await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(loop, 1)
    assert steps == 4
    assert health.not_ready() == {}


async def test_floor_between_wakes() -> None:
    """However often it is woken, steps start at least `floor_s` apart."""
    stop, wake = asyncio.Event(), asyncio.Event()
    starts: list[float] = []

    async def step() -> None:
        starts.append(asyncio.get_running_loop().time())
        wake.set()
        if len(starts) == 4:
            stop.set()

    await asyncio.wait_for(reconcile("x", step, every_s=60.0, floor_s=0.05, stop=stop, health=Health(), wake=wake), 5)
    assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(starts))


async def test_transient_goes_on_permanent_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A Transient error is said once and tried again, health tells; a Permanent one propagates."""
    stop, health = asyncio.Event(), Health()
    errors: list[Exception | None] = [Unreachable("away"), Unreachable("away"), None, Misconfigured("bad key")]
    seen: list[dict[str, str]] = []

    async def step() -> None:
        seen.append(health.not_ready())
        error = errors.pop(0)
        if error:
            raise error

    with pytest.raises(Misconfigured):
        await asyncio.wait_for(reconcile("x", step, every_s=0.01, stop=stop, health=health), 5)
    assert seen == [{"start": "not started yet"}, {"x": "away"}, {"x": "away"}, {}]
    assert [record.message for record in caplog.records].count("x: away; trying again") == 1


def test_health() -> None:
    """Not ready before anything was said; a loop beyond its bound hangs."""
    health = Health()
    assert health.not_ready() == {"start": "not started yet"}
    health.bad("bus", "away")
    assert health.not_ready() == {"bus": "away"}
    health.good("bus")
    assert health.not_ready() == {}
    health.beat("loop", 60.0)
    assert health.hanging() == {}
    health.beat("loop", -1.0)
    assert list(health.hanging()) == ["loop"]


async def test_a_loop_that_was_cancelled_neither_hangs_nor_complains() -> None:
    """An instance that lost its lease stands by: what its loop last said does not make it unready or dead."""
    health = Health()

    async def step() -> None:
        raise Unreachable("away")

    loop = asyncio.create_task(reconcile("x", step, every_s=60.0, stop=asyncio.Event(), health=health))
    await asyncio.sleep(0.02)
    assert health.not_ready() == {"x": "away"}
    loop.cancel()
    await asyncio.wait({loop})
    health.good("lease")
    assert health.not_ready() == {}
    assert health._beats == {}


async def test_the_step_says_when_the_next_is_due() -> None:
    """`pause_s` sets the pace, `every_s` bounds it."""
    stop = asyncio.Event()
    pauses = [0.01, 60.0, 60.0]
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            stop.set()

    await asyncio.wait_for(
        reconcile("x", step, every_s=0.05, pause_s=lambda: pauses.pop(0), stop=stop, health=Health()), 5
    )
    assert steps == 3
