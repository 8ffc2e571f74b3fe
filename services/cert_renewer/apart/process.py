"""Work in a process of its own: it can be killed when it takes too long, and gives back the memory that it takes.

An order from an authority, or a word with the facility's API, takes large libraries for seconds every few minutes; the
renewer itself stays small without them. Work and answer are one JSON document each, over pipes: nothing of them is on a
command line or in a file.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from libs.runtime.errors import (
    CredentialExpired,
    Malformed,
    Misconfigured,
    NacreError,
    Overloaded,
    RateLimited,
    Refused,
    Unreachable,
)

# Whoever answers without end is stopped by this.
MOST_MEMORY_BYTES = 512 << 20
MOST_TEXT_CHARACTERS = 500
_ERRORS = (Unreachable, RateLimited, Overloaded, CredentialExpired, Refused, Misconfigured, Malformed)
_BY_NAME: dict[str, type[NacreError]] = {error.__name__: error for error in _ERRORS}

T = TypeVar("T")
W = TypeVar("W")


class _Said(msgspec.Struct, frozen=True):
    """What the process says: what it made, or what went wrong."""

    made: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    text: str = ""
    retry_after_s: float | None = None


async def made(module: str, work: msgspec.Struct, kind: type[T], *, within_s: float, what: str) -> T:
    """Run the module with this work; what it made. Its errors are raised here, with `what` before their words.

    Unreachable when it is not done in time, Overloaded when it dies.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(within_s):
            output, complaint = await process.communicate(msgspec.json.encode(work, enc_hook=str))
    except TimeoutError:
        raise Unreachable(f"{what}: not done in {within_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        said = msgspec.json.decode(output, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise Overloaded(f"{what}: its process ended with {process.returncode}: {last}") from None
    if said.error == RateLimited.__name__:
        raise RateLimited(f"{what}: {said.text}", said.retry_after_s)
    if said.error:
        raise _BY_NAME.get(said.error, Malformed)(f"{what}: {said.text}")
    return msgspec.json.decode(said.made, type=kind)


def carry_out(kind: type[W], do: Callable[[W], Any]) -> None:
    """In the process: read the work, do it, say what came of it. Bugs end the process, which is said, too."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=kind, dec_hook=_path)
    try:
        said = _Said(made=msgspec.Raw(msgspec.json.encode(do(work))))
    except NacreError as error:
        name = next(one.__name__ for one in type(error).__mro__ if one.__name__ in _BY_NAME or one is NacreError)
        text = "".join(letter if letter.isprintable() else " " for letter in str(error))[:MOST_TEXT_CHARACTERS]
        said = _Said(error=name, text=text, retry_after_s=getattr(error, "retry_after_s", None))
    sys.stdout.buffer.write(msgspec.json.encode(said))


def _path(expected: type, text: Any) -> Path:
    if expected is not Path:
        raise TypeError(f"no {expected.__name__} is known here")
    return Path(text)
