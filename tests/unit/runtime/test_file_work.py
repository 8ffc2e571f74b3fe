"""File work that hangs: the loop lives on, nothing piles up, errors arrive where they are waited for."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from libs.runtime.errors import Misconfigured, Overloaded, Unreachable
from libs.runtime.file_work import FileWork


async def test_a_hanging_file_is_given_up_and_not_asked_again(tmp_path: Path) -> None:
    """Reading a pipe that nobody writes hangs for ever: said after the bound, then at once, until it answers."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    work = FileWork("worker nodes' directory", within_s=0.2)
    before = threading.active_count()
    with pytest.raises(Unreachable, match=r"worker nodes' directory: no answer in 0\.2 s; does its file system hang"):
        await work.run(pipe.read_bytes)
    for _ in range(5):
        with pytest.raises(Unreachable, match="still no answer"):
            await work.run(pipe.read_bytes)
    assert threading.active_count() == before + 1
    with pipe.open("wb") as writer:
        writer.write(b"back")
    for _ in range(200):
        await asyncio.sleep(0.01)
        if threading.active_count() == before:
            break
    assert await work.run(lambda: 5) == 5


async def test_the_loop_goes_on_meanwhile_and_calls_take_turns() -> None:
    """One call at a time, in order, while other tasks run."""
    work = FileWork("x", within_s=5)
    order: list[int] = []
    first = threading.Event()

    def one() -> None:
        first.wait(5)
        order.append(1)

    calls = asyncio.gather(work.run(one), work.run(lambda: order.append(2)))
    await asyncio.sleep(0.05)
    assert order == []
    first.set()
    await calls
    assert order == [1, 2]


async def test_errors_arrive_where_they_are_waited_for(tmp_path: Path) -> None:
    """An error of the tree as it is, one of the system as Overloaded."""
    work = FileWork("place", within_s=5)

    def unfit() -> None:
        raise Misconfigured("unfit")

    with pytest.raises(Misconfigured, match="unfit"):
        await work.run(unfit)
    with pytest.raises(Overloaded, match="place: No such file or directory"):
        await work.run((tmp_path / "none").read_bytes)


async def test_a_bug_is_raised_where_it_is_waited_for() -> None:
    """It ends the process, as any bug does, and not just a thread."""

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await FileWork("x").run(bug)
