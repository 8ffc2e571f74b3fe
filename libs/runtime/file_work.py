"""File work that may hang: a shared file system that is away blocks whoever asks it, and nothing ends that.

So it is done in a daemon thread, waited for with a bound, and not asked again while the last question still hangs: the
event loop lives on, no threads pile up, and the process can end.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from libs.runtime.errors import Overloaded, Unreachable

T = TypeVar("T")


class FileWork:
    """One place's file work, one call at a time. `name` is how the place is called in messages."""

    def __init__(self, name: str, within_s: float = 10.0) -> None:
        self._name = name
        self._within_s = within_s
        self._turn = asyncio.Lock()
        self._asked: Future[Any] | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises; Unreachable when it takes too long, or an earlier call still hangs.

        An OSError becomes Overloaded, with its words.
        """
        async with self._turn:
            if self._asked is not None and not self._asked.done():
                raise Unreachable(f"{self._name}: still no answer; its file system hangs")
            call: Future[T] = Future()
            call.set_running_or_notify_cancel()
            self._asked = call
            threading.Thread(target=_carry_out, args=(self._name, work, call), name=self._name, daemon=True).start()
            try:
                async with asyncio.timeout(self._within_s):
                    return await asyncio.wrap_future(call)
            except TimeoutError:
                raise Unreachable(
                    f"{self._name}: no answer in {self._within_s:g} s; does its file system hang?"
                ) from None


class _CarriedOver:
    """Hands whatever is raised inside to whoever waits: a bug then ends the process, and not only a thread."""

    def __init__(self, name: str, call: "Future[Any]") -> None:
        self._name = name
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, OSError):
            self._call.set_exception(Overloaded(f"{self._name}: {error.strerror}"))
        elif error is not None:
            self._call.set_exception(error)
        return True


def _carry_out(name: str, work: Callable[[], T], call: "Future[T]") -> None:
    with _CarriedOver(name, call):
        call.set_result(work())
