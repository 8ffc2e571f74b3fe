"""Slurm's notation for the tasks of a job array: `0-9`, `1-199:2`, `0,3,7%2`.

Source: https://slurm.schedmd.com/job_array.html
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

MAX_ARRAY_SIZE = 1001
# Slurm lists a regular step only when the set spans more than this.
STEP_MIN_SPAN = 10
LIST_MAX_CHARACTERS = 63


def parse_array(text: str) -> tuple[list[int], int | None]:
    """Return the sorted task numbers of `--array=text` and the throttle after `%`; raises ValueError."""
    tasks, _, throttle = text.partition("%")
    numbers: set[int] = set()
    for piece in tasks.split(","):
        span, _, step = piece.partition(":")
        first, _, last = span.partition("-")
        numbers.update(range(int(first), int(last or first) + 1, int(step or 1)))
    if not numbers or min(numbers) < 0 or max(numbers) >= MAX_ARRAY_SIZE:
        raise ValueError(f"no valid job array: {text!r}")
    return sorted(numbers), int(throttle) if throttle else None


def format_tasks(numbers: Sequence[int], *, throttle: int | None = None, cut: bool = True) -> str:
    """Return sorted task numbers as squeue prints them; `cut` ends a long list in `...` as squeue does."""
    text = _stepped(numbers) or ",".join(_ranges(numbers))
    if cut and len(text) > LIST_MAX_CHARACTERS:
        text = text[: LIST_MAX_CHARACTERS - 3] + "..."
    return text + (f"%{throttle}" if throttle else "")


def _stepped(numbers: Sequence[int]) -> str:
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    if len(steps) == 1 and numbers[-1] - numbers[0] > STEP_MIN_SPAN and (step := steps.pop()) > 1:
        return f"{numbers[0]}-{numbers[-1]}:{step}"
    return ""


def _ranges(numbers: Iterable[int]) -> list[str]:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return [f"{first}-{last}" if last > first else str(first) for first, last in spans]
