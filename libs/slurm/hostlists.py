"""Slurm's node lists: `nid[004096-004099,004101],login1` into names. Pure.

Source: https://slurm.schedmd.com/scontrol.html (hostnames). One bracket a name, as machines with numbered nodes have.
"""

import re

from libs.runtime.errors import Malformed

# Of one batch job; the text comes from outside and could name any number.
MOST_NODES = 10_000

_ITEM = re.compile(r"([^\[\],\s]+)(?:\[([0-9,-]+)\]([^\[\],\s]*))?")


def expanded(text: str) -> tuple[str, ...]:
    """The names in Slurm's order; none for an empty text. Malformed for another form, or too many."""
    names: list[str] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise Malformed(f"node list {text[:80]!r} is not one of Slurm's")
        prefix, ranges, suffix = match.groups()
        numbers = _numbers(ranges, text) if ranges else [""]
        names += [f"{prefix}{number}{suffix or ''}" for number in numbers]
        if len(names) > MOST_NODES:
            raise Malformed(f"node list {text[:80]!r} names more than {MOST_NODES} nodes")
        position = match.end()
        if position < len(text):
            if text[position] != "," or position + 1 == len(text):
                raise Malformed(f"node list {text[:80]!r} is not one of Slurm's")
            position += 1
    return tuple(names)


def _numbers(ranges: str, text: str) -> list[str]:
    found: list[str] = []
    for piece in ranges.split(","):
        first, dash, last = piece.partition("-")
        if not first or "-" in last or bool(dash) != bool(last) or int(last or first) < int(first):
            raise Malformed(f"node list {text[:80]!r} has a range {piece[:20]!r} that is none")
        if int(last or first) - int(first) >= MOST_NODES:
            raise Malformed(f"node list {text[:80]!r} names more than {MOST_NODES} nodes")
        found += [f"{number:0{len(first)}}" for number in range(int(first), int(last or first) + 1)]
    return found
