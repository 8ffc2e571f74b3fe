"""One turn of the submitter: settle what is open, then decide and submit, CE after CE."""

import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from opentelemetry import metrics, trace

from libs.bus.connection import Latest
from libs.bus.translate import trace_headers
from libs.events.messages import (
    BatchQueueObserved,
    DemandObserved,
    FacilityObserved,
    Submission,
    SubmissionDecided,
)
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.runtime.site import Site
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.outcomes import Accepted, Refusal, Unclear
from services.slurm_submitter import batch_script, lifecycle
from services.slurm_submitter.books import Books
from services.slurm_submitter.decide import Decision, backing_off_until, decide, gather, starting, unlisted

log = logging.getLogger(__name__)


class NotSent(msgspec.Struct, frozen=True):
    """The POST surely never left; `why` says what was in the way."""

    why: str


Outcome = Accepted | Refusal | Unclear | NotSent


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What one CE's decisions are made from, each the latest value."""

    demand: Latest[DemandObserved]
    listing: Latest[BatchQueueObserved]
    facility: Latest[FacilityObserved]


class Submitter:
    """Holds the outcomes that are not yet on record; everything else is in the books."""

    def __init__(
        self,
        site: Site,
        by: str,
        machines: Mapping[str, BatchQueue],
        sources: Mapping[str, Sources],
        books: Books,
    ) -> None:
        self._site = site
        self._by = by
        self._machines = machines
        self._sources = sources
        self._books = books
        self._outcomes: dict[str, Outcome] = {}
        self._said: dict[str, str] = {}
        self._tracer = trace.get_tracer("nacre.slurm_submitter")
        meter = metrics.get_meter("nacre.slurm_submitter")
        self._submissions_counter = meter.create_counter("nacre.submissions", description="submissions by outcome")
        self._agents_counter = meter.create_counter("nacre.job_agents_submitted", description="job agents by outcome")

    async def step(self) -> None:
        """Settle, decide, submit. Idempotent: taken again with the same observations it submits nothing more."""
        for submission in self._books.submissions():
            await self._settle(submission)
        for short in self._site.ce:
            await self._decide(short)

    async def _settle(self, submission: Submission) -> None:
        """Bring one submission on: the outcome of its POST, then what listings showed of it."""
        now = clock.now()
        if submission.state == "intended":
            # No POST is under way between turns: either its outcome is at hand, or the process that sent it died.
            lost = Unclear(why="the submitter ended before it could record the answer")
            await self._record_outcome(submission, self._outcomes.get(submission.name, lost), now)
            return
        source = self._sources.get(submission.ce)
        if source is None:
            return
        agents = self._books.agents()
        mine = [agents[key] for index in range(submission.agents) if (key := f"{submission.name}.{index}") in agents]
        lag_s = self._site.machine[submission.machine].listing_lag_s
        changed = lifecycle.settled(submission, mine, source.listing.value, listing_lag_s=lag_s, now=now)
        if changed is not None and changed.state == "abandoned":
            mine = await self._books.agents_of(submission)
            changed = lifecycle.settled(submission, mine, source.listing.value, listing_lag_s=lag_s, now=now)
        if changed is not None:
            log.info("submission %s: %s, %s", changed.name, changed.state, changed.why)
            await self._books.record(changed)
        elif lifecycle.outdated(submission, mine, now):
            await self._books.drop(submission)

    async def _decide(self, short: str) -> None:
        ce = self._site.ce[short]
        source = self._sources[short]
        with self._tracer.start_as_current_span("decide", context=source.demand.trace) as span:
            decision, journal = self._decision(short)
            span.set_attributes({"nacre.ce": short, "nacre.submit": decision.submit, "nacre.bound": decision.bound})
            await self._books.journal(journal)
            if decision.why != self._said.get(short):
                log.info("%s: %s", short, decision.why)
                self._said[short] = decision.why
            left = decision.submit
            while left > 0:
                replaced = lifecycle.to_replace(self._books.submissions(), short)
                agents = min(left, ce.limits.agents_per_submission, replaced.agents if replaced else left)
                left -= agents
                if not await self._submit(short, agents, replaced):
                    break

    def _decision(self, short: str) -> tuple[Decision, SubmissionDecided]:
        ce = self._site.ce[short]
        source = self._sources[short]
        demand, listing = source.demand.value, source.listing.value
        now = clock.now()
        submissions, agents = self._books.submissions(), self._books.agents()
        listed_at = listing.listed_at if listing else None
        open_ones = [one for one in submissions if one.machine == ce.machine and one.qos == ce.batch.qos]
        inputs = gather(
            demand,
            listing,
            unlisted=unlisted((one for one in submissions if one.ce == short), agents, listed_at),
            unlisted_all_ces=unlisted(open_ones, agents, listed_at),
            starting=starting(agents.values(), short, demand, ce.match_lag_s),
            qos=ce.batch.qos,
            now=now,
        )
        decision = decide(
            ce,
            inputs,
            demand,
            listing,
            source.facility.value,
            backing_off_until=backing_off_until(submissions, short),
            now=now,
        )
        return decision, SubmissionDecided(
            at=now,
            by=self._by,
            ce=short,
            submit=decision.submit,
            bound=decision.bound,
            why=decision.why,
            inputs=inputs,
            limits=decision.limits,
        )

    async def _submit(self, short: str, agents: int, replaced: Submission | None) -> bool:
        """One submission; False when going on makes no sense before the next turn."""
        ce = self._site.ce[short]
        now = clock.now()
        submission = Submission(
            name=name(short, now),
            ce=short,
            machine=ce.machine,
            agents=agents,
            state="intended",
            intended_at=now,
            changed_at=now,
            void_after=now + timedelta(seconds=self._site.machine[ce.machine].settle_time_s),
            fence=self._books.fence,
            qos=ce.batch.qos,
            replaces=replaced.name if replaced else None,
            traceparent=trace_headers().get("traceparent", ""),
        )
        self._outcomes[submission.name] = NotSent("the intent could not be made durable")
        await self._books.record(submission)
        script = batch_script.render(submission, ce, self._site)
        self._outcomes[submission.name] = Unclear(why="the submitter was stopped before the answer came")
        outcome: Outcome
        try:
            outcome = await self._machines[ce.machine].submit(script)
            self._outcomes[submission.name] = outcome
        except NacreError as error:
            outcome = self._outcomes[submission.name] = NotSent(str(error))
        await self._record_outcome(submission, outcome, clock.now())
        return isinstance(outcome, Accepted)

    async def _record_outcome(self, submission: Submission, outcome: Outcome, now: datetime) -> None:
        kind = ""
        if isinstance(outcome, Accepted):
            changed = lifecycle.moved(submission, "accepted", now, job_id=outcome.job_id)
        elif isinstance(outcome, Refusal):
            kind = str(outcome.kind)
            changed = lifecycle.moved(submission, "refused", now, why=outcome.text)
        elif isinstance(outcome, Unclear):
            changed = lifecycle.moved(submission, "unclear", now, why=outcome.why)
        else:
            changed = lifecycle.moved(submission, "abandoned", now, why=f"never sent: {outcome.why}")
        level = logging.INFO if changed.state == "accepted" else logging.WARNING
        text = f"batch job {changed.job_id}" if changed.state == "accepted" else changed.why
        log.log(level, "submission %s of %d agents: %s, %s", changed.name, changed.agents, changed.state, text)
        await self._books.record(changed, kind=kind)
        self._outcomes.pop(submission.name, None)
        labels = {"ce": changed.ce, "outcome": changed.state}
        self._submissions_counter.add(1, labels)
        self._agents_counter.add(changed.agents, labels)


def name(ce: str, now: datetime) -> str:
    """A new submission's id and Slurm job name: sortable by time, unique by chance (48 random bits)."""
    return f"nacre-{ce}-{now:%Y%m%dt%H%M%S}-{secrets.token_hex(6)}"
