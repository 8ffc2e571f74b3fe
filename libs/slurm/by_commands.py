"""What every way by Slurm's commands shares: many ids or names in several commands, the answers put together."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

from libs.runtime.errors import NacreError
from libs.slurm import listings, programs
from libs.slurm.batch_queue import Listing
from libs.slurm.outcomes import Outcome

# Runs one squeue or sacct for a user; runs one scancel.
List = Callable[[list[str], str], Awaitable[Listing]]
Cancel = Callable[[list[str]], Awaitable[Mapping[str, Outcome]]]


async def listing(ask: List, user: str, names: Iterable[str]) -> Listing:
    """squeue of all, or of those names."""
    return listings.joined([await ask(programs.squeue(user, part), user) for part in programs.in_parts(names)])


async def accounting(
    ask: List, user: str, since: datetime, job_ids: Iterable[str], names: Iterable[str]
) -> Listing:  # fmt: skip
    """sacct of all, or of those ids, or of those names."""
    by_id = [programs.sacct(user, since, job_ids=part) for part in programs.in_parts(job_ids) if part]
    asked = by_id or [programs.sacct(user, since, names=part) for part in programs.in_parts(names)]
    return listings.joined([await ask(argv, user) for argv in asked])


async def cancelled(cancel: Cancel, job_ids: Iterable[str]) -> dict[str, Outcome]:
    """scancel of each id once, as many to one command as it carries; after a failure the rest is not tried."""
    wanted = list(dict.fromkeys(job_ids))
    outcomes: dict[str, Outcome] = {one: refused for one in wanted if (refused := programs.refused_id(one))}
    parts = [part for part in programs.in_parts(one for one in wanted if one not in outcomes) if part]
    for number, part in enumerate(parts):
        try:
            outcomes |= await cancel(part)
        except NacreError:
            if number == 0:
                raise
            break
    return outcomes
