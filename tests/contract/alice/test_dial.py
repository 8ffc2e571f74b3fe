"""Racing the addresses of one name: which is tried when, and what is said when none takes a connection."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from libs.alice import dial as dialling
from libs.alice.dial import dial, in_turn
from libs.runtime.errors import Unreachable

SIX, FOUR = socket.AF_INET6, socket.AF_INET


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine on either event loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@contextlib.contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    with socket.create_server((address, 0)) as server:
        yield server.getsockname()


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address whose queue of connections is full: the next one is neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(FOUR, socket.SOCK_STREAM))
        server.bind(("127.0.0.2", 0))
        server.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket(FOUR, socket.SOCK_STREAM))
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(server.getsockname())
        yield server.getsockname()


async def raced(*places: tuple[str, int]) -> socket.socket:
    """The race alone, with addresses that a name server might have given."""
    return await dialling._race("host", [(FOUR, place) for place in places])


def peer_of(made: socket.socket) -> Any:
    with made:
        return made.getpeername()


def test_an_address_that_does_not_answer_delays_only_a_moment(run: Callable[..., Any]) -> None:
    """The next one is tried beside it, and whichever is connected first is taken."""
    with black_hole() as hole, listening() as good:
        assert peer_of(run(raced(hole, good))) == good


def test_an_address_that_refuses_delays_nothing(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is tried at once, even if the head start never ended."""
    monkeypatch.setattr(dialling, "HEAD_START_S", 3600)
    with listening() as good, listening() as closed:
        pass
    with socket.create_server(good) as _:
        assert peer_of(run(raced(closed, good))) == good


def test_every_address_is_named_when_none_answers(run: Callable[..., Any]) -> None:
    """All of them were tried; a name without addresses says so."""
    with listening() as one, listening("127.0.0.2") as two:
        pass
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1 refused the connection; 127\.0\.0\.2 refused"):
        run(raced(one, two))
    with pytest.raises(Unreachable, match="host has no address"):
        run(raced())
    with pytest.raises(Unreachable, match=r"nowhere\.invalid has no address"):
        run(dial("nowhere.invalid", 1))


def test_giving_up_leaves_no_socket_open(run: Callable[..., Any]) -> None:
    """A race that is cut off by its caller's bound ends its attempts."""

    async def bounded() -> None:
        with black_hole() as hole, pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await raced(hole, hole)
        assert len(asyncio.all_tasks()) == 1

    run(bounded())


def test_a_name_is_looked_up_and_connected_to(run: Callable[..., Any]) -> None:
    """The ordinary case."""
    with listening() as good:
        assert peer_of(run(dial("localhost", good[1])))[1] == good[1]


@given(st.lists(st.tuples(st.sampled_from([SIX, FOUR]), st.tuples(st.text(max_size=3), st.integers(1, 9)))))
def test_families_alternate_beginning_with_ipv6(addresses: list[dialling.Address]) -> None:
    """Nothing is tried twice or beyond the bound, and either family is among the first two when both are there."""
    order = in_turn(addresses)
    assert len(order) == min(len(addresses), dialling.MOST_ADDRESSES)
    assert sorted(map(repr, order)) == sorted(map(repr, order if len(addresses) > len(order) else addresses))
    if len({family for family, _ in addresses}) == 2:
        assert [family for family, _ in order[:2]] == [SIX, FOUR]
