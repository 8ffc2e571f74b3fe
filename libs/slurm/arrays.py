"""Slurm's lists of array tasks, as squeue and sacct print them.

Forms: `7`, `0-9`, `1,3-5`, steps `1-199:2`, a throttle `%7` at the end, all of it in `[ ]`. Slurm 20.11 to 25.x cuts a
list at 64 characters and marks the cut with `...`, in the middle of a number if need be: such a list is CUT and must
never be counted. Source: https://slurm.schedmd.com/job_array.html.
"""

import re
from enum import Enum
from typing import Final, Literal

import msgspec

from libs.runtime.errors import Malformed

# Slurm's own ceiling for MaxArraySize is 4,000,001; no site lets one call have more than this, and a list is text
# from outside that could name any number.
MOST_TASKS = 100_000

_PIECE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?", re.ASCII)


class _Cut(Enum):
    CUT = "cut"


CUT: Final = _Cut.CUT
Cut = Literal[_Cut.CUT]


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """A whole list: ascending array indices without repetition, and the throttle (tasks at once) if there is one."""

    indices: tuple[int, ...]
    throttle: int | None = None


def parse_tasks(text: str) -> TaskList | Cut:
    """The tasks that a list names, or CUT. Malformed when it follows no form of Slurm's or names too many."""
    inner = text.strip()
    if "..." in inner:
        return CUT
    if inner.startswith("["):
        if not inner.endswith("]"):
            raise Malformed(f"array task list {text[:80]!r} opens a bracket and does not close it")
        inner = inner[1:-1]
    inner, percent, throttle_text = inner.partition("%")
    throttle: int | None = None
    if percent:
        if not (throttle_text.isascii() and throttle_text.isdigit()):
            raise Malformed(f"array task list {text[:80]!r} has a throttle that is not a number")
        throttle = int(throttle_text)
    found: set[int] = set()
    for piece in inner.split(","):
        span = _span(piece, text)
        if len(found) + len(span) > MOST_TASKS:
            raise Malformed(f"array task list {text[:80]!r} names more than {MOST_TASKS} tasks")
        found.update(span)
    return TaskList(indices=tuple(sorted(found)), throttle=throttle)


def named_before_cut(text: str) -> tuple[int, ...]:
    """The tasks that a cut list surely names: all before its last comma, for what follows may be half a number.

    Malformed as for parse_tasks.
    """
    whole = text.strip().removeprefix("[").partition("...")[0].rpartition(",")[0]
    tasks = parse_tasks(whole) if whole else None
    return tasks.indices if isinstance(tasks, TaskList) else ()


def _span(piece: str, text: str) -> range:
    match = _PIECE.fullmatch(piece)
    if match is None:
        raise Malformed(f"array task list {text[:80]!r} has a piece {piece[:20]!r} that is neither index nor range")
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    step = int(match[3]) if match[3] else 1
    if last < first or step < 1:
        raise Malformed(f"array task list {text[:80]!r} has a range {piece!r} that runs backwards or stands still")
    return range(first, last + 1, step)
