"""The batch queue by commands of this machine: sites with sbatch, and development.

A killed sbatch may have been heard by Slurm before: it is unclear, as an answer lost on the net is.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime

from libs.runtime import clock
from libs.runtime.errors import Malformed, NacreError
from libs.slurm import listings, processes, programs, script
from libs.slurm.batch_queue import SCRIPT_LIMIT_BYTES, Listing, RecentTask
from libs.slurm.errors import AnswerLost
from libs.slurm.outcomes import Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.processes import ProcessBounds, Said
from libs.slurm.rate import RateShare

# What Slurm's commands need of our environment. sbatch hands its own to the batch job: nothing of the service's, such
# as where a secret is, may be in it; nor may a variable override the script's lines or filter a listing.
_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT",
)  # fmt: skip


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a command gets of this process's environment."""
    return {name: variables[name] for name in _KEPT if name in variables}


class LocalQueue:
    """A BatchQueue. Its programs take turns at the share of the rate, at most `concurrency` at once, each bounded."""

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        share: RateShare | None = None,
        bounds: ProcessBounds | None = None,
        concurrency: int = 4,
    ) -> None:
        self._variables = dict(variables)
        self._share = share
        self._bounds = bounds or ProcessBounds()
        self._places = asyncio.Semaphore(concurrency)

    async def submit(self, batch_script: str) -> Outcome:
        """One sbatch, never repeated. Unclear when it was ended before it answered."""
        if len(batch_script.encode()) > SCRIPT_LIMIT_BYTES:
            return Refusal(kind=RefusalKind.SCRIPT, text=f"the batch script is larger than {SCRIPT_LIMIT_BYTES} bytes")
        try:
            facts = script.facts(batch_script)
        except Malformed as error:
            return Refusal(kind=RefusalKind.SCRIPT, text=str(error))
        async with self._turn():
            if facts.is_void(clock.now()):
                return Refusal(kind=RefusalKind.VOID, text=f"not submitted: it was past {facts.void_after}")
            try:
                said = await self._run(programs.sbatch(facts.name), {"LC_ALL": "C.UTF-8"}, batch_script)
            except (AnswerLost, Malformed) as error:
                return Unclear(why=str(error))
        return programs.submitted(said.exit_code, said.output, said.error)

    async def cancel(self, job_id: str) -> Outcome:
        """One scancel."""
        return (await self.cancel_all([job_id]))[job_id]

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """As many ids to one scancel as a command line carries."""
        wanted = list(dict.fromkeys(job_ids))
        outcomes: dict[str, Outcome] = {one: refused for one in wanted if (refused := programs.refused_id(one))}
        parts = [part for part in programs.in_parts(one for one in wanted if one not in outcomes) if part]
        for number, part in enumerate(parts):
            try:
                outcomes |= await self._cancel(part)
            except NacreError:
                if number == 0:
                    raise
                break
        return outcomes

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue."""
        return listings.joined(
            [await self._list(programs.squeue(user, part), user) for part in programs.in_parts(names)]
        )

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct."""
        by_id = [programs.sacct(user, since, job_ids=part) for part in programs.in_parts(job_ids) if part]
        asked = by_id or [programs.sacct(user, since, names=part) for part in programs.in_parts(names)]
        return listings.joined([await self._list(argv, user) for argv in asked])

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """There are none: a command's effect has come, or not, when it ends."""
        return ()

    async def _cancel(self, job_ids: list[str]) -> dict[str, Outcome]:
        async with self._turn():
            try:
                said = await self._run(programs.scancel(job_ids), {"LC_ALL": "C.UTF-8"})
            except (AnswerLost, Malformed) as error:
                return dict.fromkeys(job_ids, Unclear(why=str(error)))
        return programs.cancelled(job_ids, said.exit_code, said.output, said.error)

    async def _list(self, argv: Sequence[str], user: str) -> Listing:
        async with self._turn():
            listed_at = clock.now()
            said = await self._run(argv, programs.READING)
        programs.raise_for_read(argv[0], said.exit_code, said.error)
        return listings.of(programs.parse(argv[0], said.output), user=user, listed_at=listed_at)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A place among those that run, and a turn. RateLimited when the turn would come too late."""
        async with self._places:
            if self._share is not None:
                await self._share.turn()
            yield

    async def _run(self, argv: Sequence[str], variables: Mapping[str, str], stdin: str = "") -> Said:
        return await processes.run(argv, environment={**self._variables, **variables}, stdin=stdin, bounds=self._bounds)
