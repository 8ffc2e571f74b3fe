"""The loop of every reconciler: woken by event and timer, takes nothing from the event, no retries inside.

A step that meets a Transient error is simply taken again at the next turn; its text is logged when it changes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.health import Health

log = logging.getLogger(__name__)


async def reconcile(
    name: str,
    step: Callable[[], Awaitable[None]],
    *,
    every_s: float,
    stop: asyncio.Event,
    health: Health,
    wake: asyncio.Event | None = None,
    floor_s: float = 0.0,
    step_bound_s: float = 300.0,
    pause_s: Callable[[], float] | None = None,
) -> None:
    """Take `step` at once, then each `every_s`, or when `wake` is set but at least `floor_s` after the last start.

    `pause_s` is asked after each step how long after its start the next one comes, at most `every_s`.
    Ends when `stop` is set, after the step under way. Permanent errors and bugs end the loop and propagate.
    """
    try:
        await _loop(
            name,
            step,
            pause_s=lambda: min(pause_s(), every_s) if pause_s else every_s,
            beat_s=every_s + step_bound_s,
            stop=stop,
            health=health,
            wake=wake or asyncio.Event(),
            floor_s=floor_s,
        )
    except asyncio.CancelledError:
        # Who loses its lease stands by for as long as it takes: a loop that was cancelled does not hang.
        health.over(name)
        raise


async def _loop(
    name: str,
    step: Callable[[], Awaitable[None]],
    *,
    pause_s: Callable[[], float],
    beat_s: float,
    stop: asyncio.Event,
    health: Health,
    wake: asyncio.Event,
    floor_s: float,
) -> None:
    trouble = ""
    while not stop.is_set():
        health.beat(name, beat_s)
        wake.clear()
        started_s = clock.monotonic_s()
        try:
            await step()
        except Transient as error:
            health.bad(name, str(error))
            if str(error) != trouble:
                log.warning("%s: %s; trying again", name, error)
            trouble = str(error)
        else:
            health.good(name)
            if trouble:
                log.info("%s: works again", name)
            trouble = ""
        spent_s = clock.monotonic_s() - started_s
        await either(wake, stop, max(0.0, pause_s() - spent_s))
        if wake.is_set():
            await either(stop, stop, max(0.0, floor_s - (clock.monotonic_s() - started_s)))


async def either(first: asyncio.Event, second: asyncio.Event, at_most_s: float | None = None) -> None:
    """Wait until one of the events is set, at most so many seconds. Lets the loop run in any case."""
    events = {first, second}
    if any(event.is_set() for event in events) or (at_most_s is not None and at_most_s <= 0):
        await asyncio.sleep(0)
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
