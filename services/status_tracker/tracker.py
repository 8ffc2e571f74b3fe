"""One cycle of one machine: observe, bring the records on, make them durable, then say what is counted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from opentelemetry import metrics, trace

from libs.bus.bucket import Entry
from libs.bus.connection import Bus, Mirror
from libs.bus.translate import trace_context
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, JobAgent, JobAgentChanged, Submission
from libs.runtime import clock
from libs.runtime.health import Health
from libs.slurm.states import Phase
from services.status_tracker import counting, lifecycle
from services.status_tracker.observe import Observation, Observer, Unknown
from services.status_tracker.settings import Watch

# Writes and events under way at once: enough to hide the server's sync, too few to fill its buffers.
AT_ONCE = 32

log = logging.getLogger(__name__)


class Tracker:
    """Keeps the records of one machine's agents. Everything it knows is in the buckets, or is asked again."""

    def __init__(
        self,
        watch: Watch,
        observer: Observer,
        bus: Bus,
        submissions: Mirror[Submission],
        agents: Mirror[JobAgent],
        health: Health,
    ) -> None:
        self._watch = watch
        self._observer = observer
        self._bus = bus
        self._bucket = bus.bucket(subjects.JOB_AGENTS_BUCKET)
        self._submissions = submissions
        self._agents = agents
        self._health = health
        self._said = ""
        self._tracer = trace.get_tracer("nacre.status_tracker")
        meter = metrics.get_meter("nacre.status_tracker")
        self._listings = meter.create_counter("nacre.listings", description="listings by outcome")
        self._changes = meter.create_counter("nacre.job_agent_changes", description="changed records by state")
        self._oddities = meter.create_counter("nacre.batch_job_oddities", description="unknown states, doubles")

    async def step(self) -> None:
        """One listing and what follows from it. Raises the bus's Transient errors; the API's make it unknown."""
        known, submissions = self._known(), self._open_submissions()
        observed = await self._observer.observe(known, submissions)
        self._tell(observed)
        if isinstance(observed, Unknown):
            # Never a transition on unknown.
            for ce in sorted(self._watch.ces):
                await self._publish(ce, observed.listed_at, why=observed.why)
            return
        changed = [record for record in self._brought_on(known, observed) if record != known.get(record.agent)]
        # The record is durable before the observation that counts it: whoever has seen neither counts it as unlisted.
        await self._each(changed, self._write)
        records = {**known, **{record.agent: record for record in changed}}
        for ce in sorted(self._watch.ces):
            await self._publish(ce, observed.listed_at, why=observed.in_doubt.get(ce, ""), of=(observed, records))
        for agent in counting.outdated(records, submissions, clock.now()):
            await self._drop(agent)

    def _known(self) -> dict[str, JobAgent]:
        return {
            agent: entry.record
            for agent, entry in self._agents.entries.items()
            if entry.record.machine == self._watch.machine
        }

    def _open_submissions(self) -> dict[str, Submission]:
        return {
            name: entry.record
            for name, entry in self._submissions.entries.items()
            if entry.record.machine == self._watch.machine
        }

    def _brought_on(self, known: dict[str, JobAgent], observed: Observation) -> list[JobAgent]:
        """Every record that the observation says something about, as it makes it."""
        listed_at, machine = observed.listed_at, self._watch.machine
        records: dict[str, JobAgent] = {}
        for agent, sighting in [*observed.view.ours.items(), *observed.ended.items()]:
            before = records.get(agent) or known.get(agent)
            records[agent] = lifecycle.seen(before, sighting, machine=machine, listed_at=listed_at)
        for record in observed.missing:
            records[record.agent] = lifecycle.missing(record, listed_at)
        for record in observed.forgotten:
            records[record.agent] = lifecycle.forgotten(record)
        for submission, index in observed.never_seen:
            record = lifecycle.never_seen(
                submission.name,
                index,
                ce=submission.ce,
                machine=machine,
                qos=submission.qos,
                job_id=submission.job_id,
                listed_at=listed_at,
            )
            records[record.agent] = record
        return list(records.values())

    async def _write(self, record: JobAgent) -> None:
        """Make one record durable, then say that it changed."""
        known = self._agents.entries.get(record.agent)
        revision = await self._bucket.write(record.agent, record, known.revision if known else 0)
        self._agents.note(record.agent, record, revision)
        was = known.record.state if known else None
        event = JobAgentChanged(at=clock.now(), by=self._bus.by, was=was, record=record)
        submission = self._submissions.entries.get(record.submission)
        decision = trace_context({"traceparent": submission.record.traceparent} if submission else {})
        # What becomes of an agent belongs to the trace of the decision that made it.
        with self._tracer.start_as_current_span("job_agent.changed", context=decision):
            await self._bus.publish(subjects.JOB_AGENT_CHANGED, record.ce, event, msg_id=f"{record.agent}@{revision}")
        if record.state != was:
            self._changes.add(1, {"ce": record.ce, "state": record.state})
            words = f": {record.verdict}" if record.verdict else ""
            log.info("%s: %s -> %s%s", record.agent, was or "new", record.state, words)

    async def _drop(self, agent: str) -> None:
        entry: Entry[JobAgent] = self._agents.entries.pop(agent)
        await self._bucket.delete(agent, entry.revision)

    async def _each(self, records: Iterable[JobAgent], act: Callable[[JobAgent], Awaitable[None]]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(record: JobAgent) -> None:
            async with places:
                await act(record)

        results = await asyncio.gather(*(one(record) for record in records), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _publish(
        self, ce: str, listed_at: datetime, *, why: str, of: tuple[Observation, dict[str, JobAgent]] | None = None
    ) -> None:
        if of is None or why:
            event = BatchQueueObserved(
                at=clock.now(),
                by=self._bus.by,
                ce=ce,
                machine=self._watch.machine,
                listed_at=listed_at,
                unknown_because=why,
            )
        else:
            observed, records = of
            counts = counting.count(records.values(), ce)
            event = BatchQueueObserved(
                at=clock.now(),
                by=self._bus.by,
                ce=ce,
                machine=self._watch.machine,
                listed_at=listed_at,
                queued=counts.queued,
                running=counts.running,
                unaccounted=counts.unaccounted,
                strangers=observed.view.strangers,
                user_jobs_by_qos=observed.view.by_qos,
            )
        await self._bus.publish(subjects.BATCH_QUEUE_OBSERVED, ce, event)

    def _tell(self, observed: Observation | Unknown) -> None:
        """Health, counters, and one log line when the listing begins or ceases to be known."""
        machine, condition = self._watch.machine, f"listing of {self._watch.machine}"
        why = observed.why if isinstance(observed, Unknown) else ""
        self._listings.add(1, {"machine": machine, "outcome": "unknown" if why else "complete"})
        if why:
            self._health.bad(condition, why)
        else:
            self._health.good(condition)
        if why and why != self._said:
            log.warning("%s: the batch queue is unknown: %s", machine, why)
        elif not why and self._said:
            log.info("%s: the batch queue is known again", machine)
        self._said = why
        if isinstance(observed, Observation):
            for agent in observed.view.doubles:
                self._oddities.add(1, {"machine": machine, "kind": "double"})
                log.error("%s: more than one live batch job claims to be %s", machine, agent)
            for agent, sighting in observed.view.ours.items():
                if sighting.job.state.phase is Phase.UNKNOWN:
                    self._oddities.add(1, {"machine": machine, "kind": "unknown_state"})
                    log.warning("%s: Slurm's state %r is not in our table", agent, sighting.job.state.text)
