import asyncio

from libs.runtime.tasks import end


async def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    """However often a cancellation is swallowed, the task is over when `end` returns."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end(task, again_s=0.01)
    assert task.cancelled() and swallowed == 3


async def test_what_a_task_raised_is_dropped() -> None:
    """An ended task with an error leaves no warning behind."""

    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await end(task)
    assert task.done()
