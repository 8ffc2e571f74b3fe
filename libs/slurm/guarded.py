"""One way to a batch queue, and whether it can be used now: what comes back closes and opens its breaker."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from opentelemetry import metrics

from libs.runtime import clock
from libs.runtime.errors import Malformed, NacreError, Overloaded, RateLimited, Transient
from libs.slurm import breaker
from libs.slurm.batch_queue import BatchQueue, Listing, RecentTask
from libs.slurm.breaker import Breaker
from libs.slurm.errors import FacilityAway
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear

T = TypeVar("T")

log = logging.getLogger(__name__)

# Asked for when nothing else is to be read: no batch job of ours is ever named so.
_NOBODY = "nacre-nobody"
# Unknown words are said whole in the log, each kind once; more kinds than this are only counted.
_MOST_TEXTS_SAID = 200


class GuardedQueue:
    """A BatchQueue in front of another one of `flavour`, asking for `user` when it must know whether that one works.

    Nothing leaves, and Overloaded says why, while the breaker forbids it. After a failure an effect leaves only when a
    read has worked in between, so that an outage costs one unclear effect and not many.
    """

    def __init__(self, queue: BatchQueue, *, machine: str, flavour: str, user: str) -> None:
        self.flavour = flavour
        self._queue = queue
        self._machine = machine
        self._user = user
        self._breaker = Breaker()
        self._texts_said: set[str] = set()
        meter = metrics.get_meter("nacre.batch_queue")
        self._effects = meter.create_counter("nacre.batch_queue_effects", description="effects, by what became of them")
        self._reads = meter.create_counter("nacre.batch_queue_reads", description="listings, by what became of them")
        self._unknown = meter.create_counter(
            "nacre.batch_queue_unknown_texts", description="failure texts that our table of refusals does not know"
        )

    def facility_says(self, status: str) -> None:
        """The facility's own status of the machine; `unavailable` keeps effects here and makes reads rare."""
        self._breaker = breaker.told(self._breaker, status)

    async def ready(self) -> None:
        """Return when an effect may leave now; after a failure this is tried by a read. Raises what is in the way."""
        if self._breaker.facility == breaker.UNAVAILABLE:
            raise FacilityAway(f"{self._machine}: nothing is sent: {breaker.effect_refused(self._breaker)}")
        if self._breaker.failures:
            await self.listing(self._user, names=[_NOBODY])

    async def submit(self, batch_script: str) -> Outcome:
        """As the queue behind it."""
        await self.ready()
        return self._judged("submit", await self._tried("submit", lambda: self._queue.submit(batch_script)))

    async def cancel(self, job_id: str) -> Outcome:
        """As the queue behind it."""
        await self.ready()
        return self._judged("cancel", await self._tried("cancel", lambda: self._queue.cancel(job_id)))

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """As the queue behind it."""
        await self.ready()
        outcomes = await self._tried("cancel", lambda: self._queue.cancel_all(job_ids))
        for outcome in outcomes.values():
            self._judged("cancel", outcome)
        return outcomes

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """As the queue behind it."""
        return await self._read("squeue", lambda: self._queue.listing(user, names=names))

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """As the queue behind it."""
        return await self._read(
            "sacct", lambda: self._queue.accounting(user, since=since, job_ids=job_ids, names=names)
        )

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """As the queue behind it."""
        return await self._queue.recent_tasks()

    async def _read(self, what: str, ask: Callable[[], Awaitable[Listing]]) -> Listing:
        now_s = clock.monotonic_s()
        wait_s = breaker.read_wait_s(self._breaker, now_s)
        if wait_s > 0:
            kind = FacilityAway if self._breaker.facility == breaker.UNAVAILABLE else Overloaded
            why = breaker.effect_refused(self._breaker)
            raise kind(f"{self._machine}: not asked by {self.flavour}: {why}; tried again in {wait_s:.0f} s")
        self._breaker = breaker.read_left(self._breaker, now_s)
        listing = await self._tried(what, ask)
        self._breaker = breaker.worked(self._breaker)
        self._count(self._reads, what, "complete" if listing.complete else "incomplete")
        return listing

    async def _tried(self, what: str, go: Callable[[], Awaitable[T]]) -> T:
        """Go, and note a failure of the way itself: not that we are too fast, wrongly configured, or refused."""
        try:
            return await go()
        except NacreError as error:
            if isinstance(error, Transient | Malformed) and not isinstance(error, RateLimited):
                self._breaker = breaker.failed(self._breaker, clock.monotonic_s())
            counter = self._reads if what in ("squeue", "sacct") else self._effects
            self._count(counter, what, type(error).__name__)
            raise

    def _judged(self, what: str, outcome: Outcome) -> Outcome:
        """Note what an outcome says about the way, count it, and keep words that we do not know."""
        kind = "accepted" if isinstance(outcome, Accepted) else "unclear"
        if isinstance(outcome, Refusal):
            kind = f"refused: {outcome.kind}"
        if isinstance(outcome, Unclear) or (isinstance(outcome, Refusal) and outcome.kind is RefusalKind.BUSY):
            self._breaker = breaker.failed(self._breaker, clock.monotonic_s())
        else:
            self._breaker = breaker.worked(self._breaker)
        self._count(self._effects, what, kind)
        unknown = outcome.unknown_text if isinstance(outcome, Unclear) else ""
        if isinstance(outcome, Refusal) and outcome.kind is RefusalKind.OTHER:
            unknown = outcome.text
        if unknown:
            self._unknown.add(1, {"machine": self._machine, "flavour": self.flavour})
            if unknown not in self._texts_said and len(self._texts_said) < _MOST_TEXTS_SAID:
                self._texts_said.add(unknown)
                log.warning("%s: words of a failed %s that are not in our table: %s", self._machine, what, unknown)
        return outcome

    def _count(self, counter: metrics.Counter, what: str, outcome: str) -> None:
        counter.add(1, {"machine": self._machine, "flavour": self.flavour, "what": what, "outcome": outcome})
