"""How many job agents there are, from the world's own ledger. Pure.

An agent is a submission's name and an array index; what replaces a submission stands for it. Batch jobs that were void,
that Slurm forgot, or that were cancelled before they started do not count.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from tests.e2e.ledgers import replacements, root

Row = Mapping[str, Any]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `make crash`."""

    seed: int
    intended: int
    live_or_finished: int
    doubled: int
    lost: int
    strangers_touched: int

    @property
    def good(self) -> bool:
        """Exactly one live or finished batch job for each intended agent, and nobody else's touched."""
        return not (self.doubled or self.lost or self.strangers_touched)


def counts(row: Row) -> bool:
    """Whether this batch job is, or was, an agent at work or in the queue."""
    cancelled_in_time = row["state"] == "CANCELLED" and row["started_at"] is None
    return not (row["void"] or row["state"] == "FORGOTTEN" or cancelled_in_time)


def verdict(ledger: Sequence[Row], strangers: Collection[str], *, intended: int, seed: int) -> Verdict:
    """Judge the ledger's rows; `strangers` are the names of batch jobs that are not ours."""
    ours = [row for row in ledger if row["name"] not in strangers]
    replaced = replacements(ours)
    jobs = Counter((root(row["name"], replaced), row["index"]) for row in ours if counts(row))
    live, agents = jobs.total(), len(jobs)
    return Verdict(
        seed=seed,
        intended=intended,
        live_or_finished=live,
        # Two batch jobs for one agent, or an agent that nobody asked for.
        doubled=live - agents + max(0, agents - intended),
        lost=max(0, intended - agents),
        strangers_touched=sum(row["state"] == "CANCELLED" for row in ledger if row["name"] in strangers),
    )
