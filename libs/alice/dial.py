"""A TCP connection to whichever address of a host takes one first: IPv6 and IPv4 raced, as RFC 8305 tells.

uvloop's create_connection cannot do that (it has no happy_eyeballs_delay), so the sockets are raced here.
"""

import asyncio
import contextlib
import itertools
import os
import socket
from collections import deque
from typing import TypeAlias

from libs.runtime.errors import Unreachable

HEAD_START_S = 0.25
MOST_ADDRESSES = 16

Address: TypeAlias = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def dial(host: str, port: int) -> socket.socket:
    """A connected socket. Unreachable when the name has no address, or none of its addresses takes a connection.

    The next address is tried when the one before failed, or has not answered for `HEAD_START_S`. Unbounded by itself.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host} has no address: {error.strerror or error}") from error
    return await _race(host, in_turn([(entry[0], entry[4]) for entry in found]))


def in_turn(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 alternating, IPv6 first, each family in the order given; no more than `MOST_ADDRESSES`."""
    six = [one for one in addresses if one[0] == socket.AF_INET6]
    four = [one for one in addresses if one[0] != socket.AF_INET6]
    pairs = itertools.zip_longest(six, four)
    return [one for pair in pairs for one in pair if one is not None][:MOST_ADDRESSES]


async def _race(host: str, addresses: list[Address]) -> socket.socket:
    waiting, failures = deque(addresses), list[str]()
    async with contextlib.AsyncExitStack() as stack:
        attempts: set[asyncio.Task[socket.socket]] = set()
        stack.push_async_callback(_abandon, attempts)
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.popleft())))
            done, _ = await asyncio.wait(
                attempts, timeout=HEAD_START_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                try:
                    return attempt.result()
                except Unreachable as error:
                    failures.append(str(error))
    raise Unreachable("; ".join(failures) or f"{host} has no address")


async def _connect(address: Address) -> socket.socket:
    family, place = address
    with contextlib.ExitStack() as undo:
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
            undo.callback(made.close)
            made.setblocking(False)
            await asyncio.get_running_loop().sock_connect(made, place)
        except OSError as error:
            said = "refused the connection" if isinstance(error, ConnectionRefusedError) else _said(error)
            raise Unreachable(f"{place[0]!s} {said}") from error
        undo.pop_all()
    return made


def _said(error: OSError) -> str:
    # The loops put words of their own in place of the system's.
    return f"cannot be reached: {os.strerror(error.errno) if error.errno else type(error).__name__}"


async def _abandon(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """End attempts that lost the race; a socket that was connected all the same is closed."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()
