"""Array task lists that squeue cut short, made whole by asking for the rest of the tasks by their own ids. Pure.

Asked for some tasks of a pending block, squeue shows the block with just those of them that wait (seen on a real Slurm
22.05). That row may be cut, too, but what it names before the cut is sure, so every answer brings the search on. A task
that started meanwhile comes as a row of its own. Source: https://slurm.schedmd.com/squeue.html.
"""

from collections.abc import Iterable, Sequence

import msgspec

from libs.slurm.rows import BatchJob
from libs.slurm.states import Phase

# Ids in one question: about 4 kB of URL.
ASKED_AT_ONCE = 300


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one cut row: the tasks `found` so far, all of them below `following`.

    `elsewhere`: tasks of the array that have rows of their own. `started`: rows of those that left the block meanwhile.
    """

    job: BatchJob
    found: tuple[int, ...]
    following: int
    elsewhere: frozenset[int]
    started: tuple[BatchJob, ...] = ()


def begun(job: BatchJob, rows: Iterable[BatchJob]) -> Search:
    """The search for the rest of a cut row, with the whole listing at hand."""
    others = (row for row in rows if row.array_job_id == job.array_job_id and row.indices)
    elsewhere = frozenset(index for row in others for index in row.indices or ())
    return Search(job=job, found=job.named, following=max(job.named, default=-1) + 1, elsewhere=elsewhere)


def next_tasks(search: Search, max_array_size: int) -> range:
    """The tasks to ask for next; empty when the search is over. Indices of Slurm's are below `max_array_size`."""
    return range(search.following, min(search.following + ASKED_AT_ONCE, max_array_size))


def job_ids(search: Search, tasks: range) -> str:
    """`16_300,16_301,...` for squeue's option --jobs."""
    return ",".join(f"{search.job.array_job_id}_{index}" for index in tasks)


def continued(search: Search, asked: range, answer: Sequence[BatchJob]) -> Search:
    """The search after an answer about the asked tasks."""
    found, elsewhere, started = set(search.found), set(search.elsewhere), list(search.started)
    following = asked.stop
    for row in answer:
        if row.array_job_id != search.job.array_job_id:
            continue
        if row.indices is None:
            following = max(row.named, default=asked.stop - 1) + 1
        fresh = {index for index in row.indices or row.named if index in asked} - elsewhere
        if row.state.phase is Phase.QUEUED:
            found |= fresh
        elif fresh:
            started.append(row)
            elsewhere |= fresh
    return msgspec.structs.replace(
        search,
        found=tuple(sorted(found - elsewhere)),
        following=following,
        elsewhere=frozenset(elsewhere),
        started=tuple(started),
    )


def made_whole(search: Search) -> list[BatchJob]:
    """The rows that stand for the cut one: the block with every task that waits, if any, and those that started."""
    block = [msgspec.structs.replace(search.job, indices=search.found, named=())] if search.found else []
    return [*block, *search.started]
