"""Ending a task for certain.

On Python 3.11 `asyncio.wait_for` can swallow a cancellation that arrives just when what it waits for is done
(https://github.com/python/cpython/issues/86296); nats-py waits that way. A task that is cancelled only once may go on.
"""

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any], *, again_s: float = 1.0) -> None:
    """Cancel the task, again every `again_s` until it is over. What it raised is dropped."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again_s)
    if not task.cancelled():
        task.exception()
