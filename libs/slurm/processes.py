"""One program of this machine, bounded in time and output; its whole process group is ended if need be."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

import msgspec

from libs.runtime.errors import Malformed, Misconfigured, Overloaded
from libs.slurm.errors import AnswerLost

_CHUNK_BYTES = 1 << 16
# How long a killed process may take to be gone: one in an uninterruptible wait is left to the kernel.
_REAPED_WITHIN_S = 5.0


class ProcessBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a program may run, and how much it may say on each of its two outputs."""

    total_s: float = 60.0
    output_bytes: int = 64 << 20


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a program that ended by itself said."""

    exit_code: int
    output: str
    error: str


async def run(
    argv: Sequence[str], *, environment: Mapping[str, str], stdin: str = "", bounds: ProcessBounds | None = None
) -> Said:
    """Run a program to its end.

    Misconfigured or Overloaded: it was never started. AnswerLost: it was ended after its time. Malformed: it was ended
    because it said too much. Cancelled: it is ended, too.
    """
    bounds = bounds or ProcessBounds()
    process = await _started(argv, environment)
    ended = False
    try:
        async with asyncio.timeout(bounds.total_s):
            said = await _exchanged(process, stdin.encode(), bounds.output_bytes)
        ended = True
    except TimeoutError:
        raise AnswerLost(f"{argv[0]}: did not end within {bounds.total_s:g} s") from None
    finally:
        if not ended:
            _kill_group(process.pid)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAPED_WITHIN_S):
                    await process.wait()
    if said is None:
        raise Malformed(f"{argv[0]}: said more than {bounds.output_bytes} bytes")
    return said


async def _started(argv: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise Misconfigured(
            f"{argv[0]} cannot be run ({error.strerror}): Slurm's commands are not on PATH; "
            "a machine without them needs flavour jobs or command"
        ) from error
    except OSError as error:
        raise Overloaded(f"{argv[0]} cannot be started now: {error.strerror}") from error


async def _exchanged(process: asyncio.subprocess.Process, stdin: bytes, limit: int) -> Said | None:
    """Feed and read to the end; None when it said more than the limit, and was ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None

    def too_much() -> None:
        _kill_group(process.pid)

    _, output, error = await asyncio.gather(
        _feed(process.stdin, stdin),
        _read(process.stdout, limit, too_much),
        _read(process.stderr, limit, too_much),
    )
    exit_code = await process.wait()
    if max(len(output), len(error)) > limit:
        return None
    return Said(exit_code=exit_code, output=output.decode(errors="replace"), error=error.decode(errors="replace"))


async def _feed(pipe: asyncio.StreamWriter, content: bytes) -> None:
    # A program that ends before it has read everything says by its exit code what it thinks of it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(content)
        await pipe.drain()
        pipe.close()


async def _read(pipe: asyncio.StreamReader, limit: int, too_much: Callable[[], None]) -> bytes:
    found = bytearray()
    while chunk := await pipe.read(_CHUNK_BYTES):
        found += chunk
        if len(found) > limit:
            too_much()
            break
    return bytes(found)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
