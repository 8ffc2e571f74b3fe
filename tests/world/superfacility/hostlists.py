"""Slurm's notation for lists of nodes: `nid[004096-004099,004101]`.

Source: https://slurm.schedmd.com/scontrol.html (show hostlist)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HOSTS_MAX = 20_000


def write_hosts(names: Iterable[str]) -> str:
    """Return sorted names with a common prefix folded into ranges."""
    by_prefix: dict[tuple[str, int], list[int]] = {}
    plain: list[str] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match is None:
            plain.append(name)
        else:
            by_prefix.setdefault((match[1], len(match[2])), []).append(int(match[2]))
    folded = [_fold(prefix, width, sorted(numbers)) for (prefix, width), numbers in by_prefix.items()]
    return ",".join([*folded, *plain])


def _fold(prefix: str, width: int, numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [f"{first:0{width}}" if first == last else f"{first:0{width}}-{last:0{width}}" for first, last in spans]
    return prefix + (words[0] if len(numbers) == 1 else f"[{','.join(words)}]")


def read_hosts(text: str) -> list[str]:
    """Return the names of a list; raises ValueError."""
    names: list[str] = []
    for prefix, inside in re.findall(r"([^,\[\]]+)(?:\[([^\]]*)\])?", text):
        if not inside:
            names.append(prefix)
        for piece in inside.split(",") if inside else ():
            first, _, last = piece.partition("-")
            if int(last or first) - int(first) + len(names) > HOSTS_MAX:
                raise ValueError(f"more than {HOSTS_MAX} hosts")
            names += [f"{prefix}{number:0{len(first)}}" for number in range(int(first), int(last or first) + 1)]
    return names
