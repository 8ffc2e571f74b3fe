"""One cycle of one machine: observe, bring the records on, make them durable, then say what is counted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

from opentelemetry import metrics, trace

from libs.bus.connection import Bus, Mirror
from libs.bus.translate import trace_context
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, JobAgent, JobAgentChanged, Submission
from libs.runtime import clock
from libs.runtime.health import Health
from libs.slurm.states import Phase
from services.status_tracker.observe import Observation, Observer, Unknown
from services.status_tracker.rules import cadence, counting, lifecycle, output, verdict
from services.status_tracker.rules.counting import Sighting
from services.status_tracker.rules.liveness import Liveness
from services.status_tracker.settings import Watch

# Writes and events under way at once: enough to hide the server's sync, too few to fill its buffers.
AT_ONCE = 32

log = logging.getLogger(__name__)


class Tracker:
    """Keeps the records of one machine's agents. Everything it knows is in the buckets, or is asked again.

    When nothing is on record, because this is the first start or the bus was lost, agents that ended lately are looked
    for once.
    """

    def __init__(
        self,
        watch: Watch,
        observer: Observer,
        bus: Bus,
        submissions: Mirror[Submission],
        agents: Mirror[JobAgent],
        liveness: Liveness,
        health: Health,
    ) -> None:
        self._watch = watch
        self._observer = observer
        self._bus = bus
        self._bucket = bus.bucket(subjects.JOB_AGENTS_BUCKET)
        self._submissions = submissions
        self._agents = agents
        self._liveness = liveness
        self._health = health
        self._days = bus.bucket(subjects.AGENT_DAYS_BUCKET)
        self._had_records: bool | None = None
        self._pause_s = watch.pace.usual_s
        self._said = ""
        self._tracer = trace.get_tracer("nacre.status_tracker")
        meter = metrics.get_meter("nacre.status_tracker")
        self._listings = meter.create_counter("nacre.listings", description="listings by outcome")
        self._changes = meter.create_counter("nacre.job_agent_changes", description="changed records by state")
        self._oddities = meter.create_counter("nacre.batch_job_oddities", description="unknown states, doubles")

    def pause_s(self) -> float:
        """How long after its start the next step is due."""
        return self._pause_s

    async def step(self) -> None:
        """One listing and what follows from it. Raises the bus's Transient errors; the API's make it unknown."""
        known, submissions = self._known(), self._open_submissions()
        observed = await self._observer.observe(known, submissions)
        self._tell(observed)
        if isinstance(observed, Unknown):
            # Never a transition on unknown.
            self._pause_s = self._watch.pace.usual_s
            for ce in sorted(self._watch.ces):
                await self._publish(ce, observed.listed_at, why=observed.why)
            return
        past = await self._past(known, observed.listed_at)
        records = {**known, **self._brought_on(known, observed, past)}
        self._hear(records, observed)
        changed = [
            record
            for agent, record in records.items()
            if (before := known.get(agent)) is not record and lifecycle.news(before, record)
        ]
        # The record is durable before the observation that counts it: whoever has seen neither counts it as unlisted.
        await self._each(changed, self._write)
        for ce in sorted(self._watch.ces):
            await self._publish(ce, observed.listed_at, why=observed.in_doubt.get(ce, ""), of=(observed, records))
        self._pause_s = cadence.pause_s(
            self._watch.pace,
            observed.view.ours.values(),
            submissions.values(),
            listed_at=observed.listed_at,
            lag_s=self._watch.listing_lag_s,
        )

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

    async def _past(self, known: Mapping[str, JobAgent], now: datetime) -> dict[str, Sighting]:
        """What ended lately, as sacct knows it, once after nothing is on record any more."""
        if known or self._had_records is False:
            self._had_records = bool(known)
            return {}
        # Summaries that still stand mean that there was nothing to record for a while.
        past = {} if await self._days.everything() else await self._observer.past(now)
        if past is None:
            return {}
        self._had_records = False
        log.info("%s: nothing is on record; sacct shows %d agents that ended lately", self._watch.machine, len(past))
        return past

    def _brought_on(
        self, known: dict[str, JobAgent], observed: Observation, past: dict[str, Sighting]
    ) -> dict[str, JobAgent]:
        """Every record that the observation says something about, as it makes it."""
        records: dict[str, JobAgent] = {}
        seen = [*observed.view.ours.items(), *observed.ended.items()]
        for agent, sighting in [*seen, *(one for one in past.items() if one[0] not in known)]:
            records[agent] = lifecycle.seen(
                records.get(agent) or known.get(agent),
                sighting,
                machine=self._watch.machine,
                listed_at=observed.listed_at,
                void_after=self._void_after(sighting.submission),
                log_path=self._log_path(sighting),
            )
        for record in observed.missing:
            records[record.agent] = lifecycle.missing(record, observed.listed_at)
        for record in observed.forgotten:
            records[record.agent] = lifecycle.forgotten(record)
        for submission, key in observed.never_seen:
            records[key] = lifecycle.never_seen(submission, key, listed_at=observed.listed_at)
        return records

    def _hear(self, records: dict[str, JobAgent], observed: Observation) -> None:
        """Lay over the records what was heard of their agents; a verdict may say more then."""
        now = clock.now()
        raw_ids = {agent: one.job.raw_id for agent, one in observed.view.ours.items() if one.job.raw_id is not None}
        self._liveness.place(records.values(), raw_ids, now)
        activities = self._liveness.activities(now)
        for agent in self._liveness.agents():
            record = self._liveness.folded(records[agent], activities.get(agent, "unknown"), now)
            if record is not records[agent]:
                records[agent] = verdict.judged(record, self._void_after(record.submission))

    def _void_after(self, name: str) -> datetime | None:
        entry = self._submissions.entries.get(name)
        return counting.void_after_of(name, entry.record if entry else None, self._watch.settle_time_s)

    def _log_path(self, sighting: Sighting) -> str:
        at = self._watch.outputs.get(sighting.ce)
        if at is None or sighting.job.state.phase is Phase.QUEUED:
            return ""
        pattern = f"{at.pattern}.%t" if sighting.shared and at.pattern not in output.NOWHERE else at.pattern
        return output.path_of(pattern, at.directory, sighting.job, sighting.index, sighting.rank)

    async def _write(self, record: JobAgent) -> None:
        """Make one record durable, then say that it changed."""
        known = self._agents.entries.get(record.agent)
        revision = await self._bucket.write(record.agent, record, known.revision if known else 0)
        self._agents.note(record.agent, record, revision)
        self._liveness.told(record)
        before = known.record if known else None
        if not lifecycle.worth_telling(before, record):
            return
        was = before.state if before else None
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
            heard = self._liveness.is_hearing(clock.now())
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
                silent=counts.silent if heard else None,
                idle=counts.idle if heard else None,
                working=counts.working if heard else None,
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
