"""Lost and doubled, from the world's own ledgers. Pure.

*Doubled*: an agent, replacements folded into what they replace, with more than one batch job that is neither void nor
forgotten; or a grid job that was run twice. *Lost*: an accepted agent with none, replacements included; or a grid job
that was taken and never done.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Row = Mapping[str, Any]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over both ledgers, and in words what is wrong (empty when nothing is)."""

    accepted: int
    completed: int
    lost: int
    doubled: int
    grid_jobs: int
    grid_jobs_done: int
    datagrams_sent: int
    wrong: list[str]


def verdict(batch_jobs: Sequence[Row], grid_jobs: Sequence[Row], agents: Sequence[Row]) -> Verdict:
    """`batch_jobs`: the Slurm world's ledger; `grid_jobs` and `agents`: the central services' ledger."""
    lost, doubled = _agents(batch_jobs)
    lost_jobs = [
        f"grid job {job['id']} was taken and never done" for job in grid_jobs if job["takes"] and not job["dones"]
    ]
    twice = [
        f"grid job {job['id']} was run twice" for job in grid_jobs if len(_runners(job)) > 1 or len(job["dones"]) > 1
    ]
    return Verdict(
        accepted=len(batch_jobs),
        completed=sum(row["state"] == "COMPLETED" for row in batch_jobs),
        lost=len(lost) + len(lost_jobs),
        doubled=len(doubled) + len(twice),
        grid_jobs=len(grid_jobs),
        grid_jobs_done=sum(bool(job["dones"]) for job in grid_jobs),
        datagrams_sent=sum(agent["datagrams_sent"] for agent in agents),
        wrong=[*lost, *doubled, *lost_jobs, *twice],
    )


def _runners(job: Row) -> set[str]:
    return {take["agent"] for take in job["takes"]}


def _agents(batch_jobs: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Per agent, the batch jobs that count. What a smaller replacement lacks is not lost: demand decided anew."""
    replaces = replacements(batch_jobs)
    counting: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in batch_jobs:
        rows = counting[root(row["name"], replaces), row["index"] or 0]
        if not row["void"] and row["state"] != "FORGOTTEN":
            rows.append(row)
    replaced = set(replaces.values())
    lost = [
        f"agent {name}.{index} has no batch job"
        for (name, index), rows in counting.items()
        if not rows and name not in replaced
    ]
    doubled = [
        f"agent {name}.{index} has {len(rows)} batch jobs: {', '.join(str(row['job_id']) for row in rows)}"
        for (name, index), rows in counting.items()
        if len(rows) > 1
    ]
    return lost, doubled


def replacements(batch_jobs: Sequence[Row]) -> dict[str, str | None]:
    """Of each submission the one that it replaces, as the comments of our batch jobs say."""
    return dict(_comment(row["comment"]) for row in batch_jobs)


def root(name: str, replaces: Mapping[str, str | None]) -> str:
    """The submission that was the first of its kind."""
    while (older := replaces.get(name)) is not None:
        name = older
    return name


def _comment(comment: str) -> tuple[str, str | None]:
    """`nacre:name=<submission>,replaces=<submission or ->`."""
    fields = dict(part.partition("=")[::2] for part in comment.removeprefix("nacre:").split(","))
    return fields["name"], None if fields["replaces"] == "-" else fields["replaces"]
