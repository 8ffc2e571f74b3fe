"""The API's tasks: an effect leaves in one request that starts a task, and the task is followed to its end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx

from libs.runtime.errors import Malformed, NacreError, RateLimited
from libs.slurm import replies, task_replies
from libs.slurm.batch_queue import RecentTask
from libs.slurm.errors import AnswerLost, NotFound
from libs.slurm.outcomes import Refusal, RefusalKind, Unclear, read_failure
from libs.slurm.transport import NOT_AUTHENTICATED, Answer, ApiTransport

T = TypeVar("T")

_POLL_LONGEST_S = 5.0
# A task that the API does not know may only be not known yet; so often in a row, it has vanished.
_VANISHED_AFTER = 3


class Tasks:
    """Starts and follows tasks. `first_poll_s` is the pause before the first look at one (they grow)."""

    def __init__(self, api: ApiTransport, *, first_poll_s: float, patience_s: float) -> None:
        self._api = api
        self._first_poll_s = first_poll_s
        self._patience_s = patience_s

    async def begun(
        self, method: str, path: str, form: Mapping[str, str] | None = None
    ) -> str | Refusal | Unclear:  # fmt: skip
        """The id of the task that one request with an effect started; the request is never repeated.

        Raises an error of the tree only when surely nothing left: no token, no connection, no turn, or HTTP 429.
        """
        token = await self._api.token()
        what = f"{method} {path}"
        try:
            answer = await self._api.effect(method, path, token, form)
            return _refused_by_status(answer, what) or replies.posted_task(answer.body, what)
        except (AnswerLost, Malformed) as error:
            return Unclear(why=str(error))

    async def followed(self, task_id: str, read: Callable[[bytes, str], T | None]) -> T:
        """What `read` makes of the task once it has ended. A failed look only costs its time.

        AnswerLost when the task vanished, or was not seen to end in time.
        """
        loop = asyncio.get_running_loop()
        path = f"/tasks/{task_id}"
        deadline_s = loop.time() + self._patience_s
        pause_s, unknown_in_a_row, trouble = self._first_poll_s, 0, "it still runs"
        while loop.time() + pause_s < deadline_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_LONGEST_S)
            try:
                ended = read(await self._api.get(path), path)
            except NotFound as error:
                unknown_in_a_row += 1
                if unknown_in_a_row >= _VANISHED_AFTER:
                    raise AnswerLost(f"the task vanished before its end was seen: {error}") from error
                trouble = str(error)
                continue
            except NacreError as error:
                trouble = str(error)
                continue
            if ended is not None:
                return ended
            unknown_in_a_row, trouble = 0, "it still runs"
        raise AnswerLost(f"{path}: not seen to end in {self._patience_s:.0f} s: {trouble}")

    async def recent(self) -> tuple[RecentTask, ...]:
        """The tasks with an effect that the API still knows."""
        path = "/tasks"
        return task_replies.recent_tasks(await self._api.get(path), path)


def _refused_by_status(answer: Answer, what: str) -> Refusal | Unclear | None:
    """What the HTTP status of an answer to an effect means; None when it is 2xx. Raises RateLimited for 429."""
    status, detail = answer.status, answer.detail()
    text = f"{what}: HTTP {status}{': ' + detail if detail else ''}"
    if httpx.codes.is_success(status):
        return None
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(text, answer.retry_after_s)
    if status in NOT_AUTHENTICATED:
        return Refusal(kind=RefusalKind.AUTHENTICATION, text=text)
    if httpx.codes.is_client_error(status) and status != httpx.codes.REQUEST_TIMEOUT:
        read = read_failure(detail)
        return Refusal(kind=read.kind if isinstance(read, Refusal) else RefusalKind.OTHER, text=text)
    # A gateway's 5xx says nothing about what is behind it: a 504 after sbatch took the job is the classic.
    return Unclear(why=text)
