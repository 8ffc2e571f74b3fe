"""The batch queue of one machine by the ways that lead to it, the best one first.

A read that fails by one way is asked for by the next. A new effect takes the first way that works: which that is, is
settled before it leaves; once it has left, its outcome is the answer, whatever it is, and no other way is tried.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from opentelemetry import metrics

from libs.runtime.errors import Malformed, NacreError, Overloaded
from libs.slurm.batch_queue import Listing, RecentTask
from libs.slurm.errors import AnswerLost, FacilityAway, NotFound
from libs.slurm.guarded import GuardedQueue
from libs.slurm.outcomes import Outcome

T = TypeVar("T")

log = logging.getLogger(__name__)

# What another way may do better. No way helps against no connection to the API, its limit on our rate, or its refusal.
_THIS_WAY_FAILS = (Overloaded, AnswerLost, Malformed, NotFound)


class MachineQueue:
    """A BatchQueue. The first way is used again as soon as it works."""

    def __init__(self, machine: str, ways: Sequence[GuardedQueue]) -> None:
        self._machine = machine
        self._ways = tuple(ways)
        self._used = self._ways[0].flavour
        self._fallbacks = metrics.get_meter("nacre.batch_queue").create_counter(
            "nacre.batch_queue_fallbacks", description="requests that took another way than the configured one"
        )

    @property
    def flavour(self) -> str:
        """The way that was used last."""
        return self._used

    def facility_says(self, status: str) -> None:
        """The facility's own status of the machine, as in `facility.observed`."""
        for way in self._ways:
            way.facility_says(status)

    async def submit(self, batch_script: str) -> Outcome:
        """sbatch by the first way that works."""
        return await (await self._way_for_effect()).submit(batch_script)

    async def cancel(self, job_id: str) -> Outcome:
        """scancel by the first way that works."""
        return await (await self._way_for_effect()).cancel(job_id)

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """scancel by the first way that works."""
        return await (await self._way_for_effect()).cancel_all(job_ids)

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue by the first way that gives a complete listing."""
        wanted = list(names)
        return await self._read(lambda way: way.listing(user, names=wanted))

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct by the first way that gives a complete listing."""
        ids, wanted = list(job_ids), list(names)
        return await self._read(lambda way: way.accounting(user, since=since, job_ids=ids, names=wanted))

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """The same by every way."""
        return await self._ways[0].recent_tasks()

    async def _read(self, ask: Callable[[GuardedQueue], Awaitable[Listing]]) -> Listing:
        """The first complete listing; without one the first that came; without any the first way's error."""
        partial: Listing | None = None
        failure: NacreError | None = None
        for way in self._ways:
            why = partial.why_not if partial is not None else failure
            try:
                listing = await ask(way)
            except FacilityAway:
                raise
            except _THIS_WAY_FAILS as error:
                failure = failure or error
                continue
            except NacreError as error:
                if partial is None and failure is None:
                    raise
                log.warning("%s: %s cannot help either: %s", self._machine, way.flavour, error)
                break
            if listing.complete:
                self._took(way, why, is_effect=False)
                return listing
            partial = partial or listing
        if partial is not None:
            return partial
        assert failure is not None
        raise failure

    async def _way_for_effect(self) -> GuardedQueue:
        """The first way that works, by its own word or by a read. Raises the first way's error when none does."""
        failure: NacreError | None = None
        for way in self._ways:
            try:
                await way.ready()
            except FacilityAway:
                raise
            except _THIS_WAY_FAILS as error:
                failure = failure or error
                continue
            self._took(way, failure, is_effect=True)
            return way
        assert failure is not None
        raise failure

    def _took(self, way: GuardedQueue, why: object, *, is_effect: bool) -> None:
        """Count and say when another way is taken, and when the first one is taken again."""
        first = self._ways[0]
        if way is not first:
            self._fallbacks.add(
                1, {"machine": self._machine, "flavour": way.flavour, "what": "effect" if is_effect else "read"}
            )
        if way.flavour != self._used:
            if way is first:
                log.info("%s: %s works again", self._machine, way.flavour)
            else:
                log.warning("%s: %s instead of %s: %s", self._machine, way.flavour, first.flavour, why)
            self._used = way.flavour
