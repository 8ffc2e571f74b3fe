"""Rows into listings: only ours, and complete only when nothing speaks against it. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from libs.slurm.batch_queue import Listing
from libs.slurm.rows import Parsed

_FAULTS_NAMED = 3
_WHY_LIMIT = 1000


def of(parsed: Parsed, *, user: str, listed_at: datetime, faults: Iterable[str] = ()) -> Listing:
    """The rows of `user` out of one answer; `faults` are added in front of those of the rows."""
    why = [*faults, *parsed.faults]
    more = len(why) - _FAULTS_NAMED
    return Listing(
        rows=tuple(row for row in parsed.jobs if row.user == user),
        complete=not why,
        why_not="; ".join(why[:_FAULTS_NAMED]) + (f"; and {more} more" if more > 0 else ""),
        listed_at=listed_at,
    )


def joined(parts: Sequence[Listing]) -> Listing:
    """One listing out of the answers to several questions: as old as the oldest, complete when all are."""
    return Listing(
        rows=tuple(row for part in parts for row in part.rows),
        complete=all(part.complete for part in parts),
        why_not="; ".join(part.why_not for part in parts if part.why_not)[:_WHY_LIMIT],
        listed_at=min(part.listed_at for part in parts),
    )
