"""The API's tasks: what a POST started, and its result as a JSON string, for ten minutes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

TASK_LIFE_S = 600.0
TASKS_MAX = 10_000


@dataclass
class Task:
    """One task; `ended_at` is unix seconds."""

    id: str
    status: str = "new"
    result: str | None = None
    ended_at: float | None = None
    began_at: float = field(default_factory=time.monotonic)

    def row(self) -> dict[str, str | None]:
        return {"id": self.id, "status": self.status, "result": self.result}


class Tasks:
    """All tasks that still exist; their work runs in the background after `delay_s`."""

    def __init__(self, *, delay_s: float, life_s: float = TASK_LIFE_S, settle_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self._settle_s = settle_s
        self._life_s = life_s
        self._next_id = 1
        self._tasks: dict[str, Task] = {}
        self._work: dict[str, asyncio.Task[None]] = {}

    def begin(self, work: Callable[[], Awaitable[dict[str, Any]]], *, more_delay_s: float = 0.0) -> Task:
        """Start `work` after the delay; its result, an object with `status`, becomes the task's."""
        self._drop_old()
        task = Task(str(self._next_id))
        self._next_id += 1
        self._tasks[task.id] = task
        running = asyncio.create_task(self._do(task, work, self.delay_s + more_delay_s))
        self._work[task.id] = running
        running.add_done_callback(lambda _: self._work.pop(task.id, None))
        return task

    def find(self, task_id: str) -> Task | None:
        """Return a task that still exists."""
        self._drop_old()
        return self._tasks.get(task_id)

    def settling(self, task: Task) -> bool:
        """Say whether a task is so new that the API cannot tell yet (it answers 500)."""
        return time.monotonic() - task.began_at < self._settle_s

    def all(self) -> list[Task]:
        """Return every task that still exists."""
        self._drop_old()
        return list(self._tasks.values())

    def forget(self, task_id: str) -> None:
        """Let the task vanish; its work goes on."""
        self._tasks.pop(task_id, None)

    def cancel(self, task: Task) -> None:
        """Cancel work that has not ended."""
        if (running := self._work.get(task.id)) is not None:
            running.cancel()
            task.status, task.ended_at = "cancelled", time.time()

    async def close(self) -> None:
        """Cancel everything."""
        running = list(self._work.values())
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _do(self, task: Task, work: Callable[[], Awaitable[dict[str, Any]]], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            task.result = json.dumps(await work())
            task.status = "completed"
        except (OSError, ValueError, RuntimeError) as error:
            task.result, task.status = json.dumps({"status": "error", "error": str(error)}), "failed"
        task.ended_at = time.time()

    def _drop_old(self) -> None:
        oldest = time.time() - self._life_s
        for task in list(self._tasks.values()):
            too_many = len(self._tasks) > TASKS_MAX
            if task.ended_at is not None and (task.ended_at < oldest or too_many):
                del self._tasks[task.id]
