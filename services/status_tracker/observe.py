"""Ask Slurm: one bulk listing per cycle, sacct for those that left it, names before an absence is believed.

The answer is what is true now, or why it is not known. Nothing is written here.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import JobAgent, Submission
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.slurm.batch_queue import BatchQueue, Listing
from libs.slurm.rows import BatchJob
from libs.slurm.states import Phase
from services.status_tracker.rules import absence, counting
from services.status_tracker.rules.absence import Questions
from services.status_tracker.rules.counting import Sighting, View
from services.status_tracker.settings import Watch

# How far back ended agents are looked for when nothing is on record any more, and how often that is halved when there
# are more than sacct gives at once.
LOOKED_BACK = timedelta(days=7)
HALVED_AT_MOST = 6

log = logging.getLogger(__name__)


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """The listing that was asked for at `listed_at` cannot be counted, and why."""

    listed_at: datetime
    why: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A complete listing and what followed from it.

    `ended`: what sacct shows ended, by agent. `missing`: active agents in neither. `never_seen`: agents that Slurm took
    and that should be listed by now. `forgotten`: missing beyond the settle time, also when asked by name.
    `in_doubt`: CE -> why its counts cannot be trusted yet.
    """

    listed_at: datetime
    view: View
    ended: dict[str, Sighting]
    missing: list[JobAgent]
    never_seen: list[tuple[Submission, str]]
    forgotten: list[JobAgent]
    in_doubt: dict[str, str]


class _Accounted(msgspec.Struct, frozen=True):
    """What sacct said: every row, those that are ends by agent, and what kept it from answering in full."""

    rows: tuple[BatchJob, ...] = ()
    ended: Mapping[str, Sighting] = {}
    trouble: str = ""


class Observer:
    """One machine's eyes. Remembers only since when too many agents are missing at once."""

    def __init__(self, watch: Watch, client: BatchQueue) -> None:
        self._watch = watch
        self._client = client
        self._suspicious_since: datetime | None = None

    async def observe(
        self, known: Mapping[str, JobAgent], submissions: Mapping[str, Submission]
    ) -> Observation | Unknown:
        """One cycle's questions about the agents and submissions of this machine. Raises nothing of the API's."""
        listing = await self._listed()
        if isinstance(listing, Unknown):
            return listing
        view = counting.view(listing.rows, self._watch.ces, submissions)
        listed_at = listing.listed_at
        seen = _live(view)
        absent = absence.absent(known.values(), seen)
        unresolved = absence.unresolved(submissions.values(), known.keys(), seen, listed_at)
        questions = absence.questions(absent, unresolved)
        accounted = await self._accounted(questions, submissions)
        # A squeue that shows ended jobs for a while says how they ended just as well, without the exit code. Whom it
        # shows alive is alive, whatever sacct says: if that is newer, the next listing lacks it.
        ended = {agent: one for agent, one in {**view.ours, **accounted.ended}.items() if agent not in seen}
        deferred = questions.deferred if questions else frozenset()
        missing = [one for one in absent if one.agent not in ended and one.agent not in deferred]
        unresolved = [one for one in unresolved if one[1] not in ended and one[0].name not in deferred]
        if not accounted.trouble:
            rows, lag_s = [*listing.rows, *accounted.rows], self._watch.listing_lag_s
            ended |= absence.cancelled_waiting(missing, rows, listed_at=listed_at, lag_s=lag_s)
            missing = [record for record in missing if record.agent not in ended]
        active = sum(record.state in counting.ACTIVE for record in known.values())
        if absence.too_many(missing, active, self._watch.missing_share):
            named = await self._judged_by_name(missing, active, listed_at, submissions)
            if isinstance(named, Unknown):
                return named
            view = msgspec.structs.replace(view, ours=view.ours | named)
            missing = [record for record in missing if record.agent not in named]
        else:
            self._suspicious_since = None
        forgotten = [] if accounted.trouble else absence.settled(missing, listed_at, self._watch.settle_time_s)
        forgotten, found = await self._asked_before_forgetting(forgotten, submissions)
        overdue = absence.overdue(unresolved, listed_at, self._watch.listing_lag_s)
        return Observation(
            listed_at=listed_at,
            view=msgspec.structs.replace(view, ours=view.ours | found),
            ended=ended,
            missing=[record for record in missing if record.agent not in found],
            never_seen=[] if accounted.trouble else overdue,
            forgotten=forgotten,
            in_doubt=self._in_doubt(unresolved, listed_at, accounted.trouble),
        )

    async def past(self, now: datetime) -> dict[str, Sighting] | None:
        """Agents that ended in the last days, from sacct alone; None when it does not answer.

        When there are more than it gives at once, those of the last hours are better than none.
        """
        back = LOOKED_BACK
        listing: Listing | None = None
        for _ in range(HALVED_AT_MOST):
            try:
                listing = await self._client.accounting(self._watch.user, since=now - back)
            except NacreError as error:
                log.warning("%s: sacct does not say what ended lately: %s", self._watch.machine, error)
                return None
            if listing.complete:
                break
            back /= 2
        rows = [row for row in listing.rows if row.state.phase is Phase.ENDED] if listing else []
        return counting.view(rows, self._watch.ces).ours

    async def _listed(self, names: Iterable[str] = ()) -> Listing | Unknown:
        asked_at = clock.now()
        try:
            listing = await self._client.listing(self._watch.user, names=names)
        except NacreError as error:
            return Unknown(listed_at=asked_at, why=str(error))
        if not listing.complete:
            return Unknown(listed_at=listing.listed_at, why=f"the listing is not complete: {listing.why_not}")
        return listing

    async def _accounted(self, questions: Questions | None, submissions: Mapping[str, Submission]) -> _Accounted:
        if questions is None:
            return _Accounted()
        found: list[Listing] = []
        user, since = self._watch.user, questions.since
        try:
            if questions.job_ids:
                found.append(await self._client.accounting(user, since=since, job_ids=questions.job_ids))
            if questions.names:
                found.append(await self._client.accounting(user, since=since, names=questions.names))
        except NacreError as error:
            log.warning("%s: sacct did not answer: %s", self._watch.machine, error)
            return _Accounted(trouble=str(error))
        rows = tuple(row for listing in found for row in listing.rows)
        ends = [row for row in rows if row.state.phase is Phase.ENDED]
        ended = counting.view(ends, self._watch.ces, submissions).ours
        return _Accounted(rows, ended, "; ".join(listing.why_not for listing in found if not listing.complete))

    async def _judged_by_name(
        self, missing: list[JobAgent], active: int, listed_at: datetime, submissions: Mapping[str, Submission]
    ) -> dict[str, Sighting] | Unknown:
        """Too many are missing at once. If it stays so for the listing lag, the questions by name decide."""
        why = f"{len(missing)} of {active} active agents are missing at once from listing and sacct"
        self._suspicious_since = self._suspicious_since or listed_at
        if listed_at - self._suspicious_since < timedelta(seconds=self._watch.listing_lag_s):
            return Unknown(listed_at=listed_at, why=why)
        named = await self._named(missing, submissions)
        if isinstance(named, Unknown):
            return msgspec.structs.replace(named, why=f"{why}; asked by name: {named.why}")
        log.warning("%s: %s; asked by name, %d of them are there", self._watch.machine, why, len(named))
        self._suspicious_since = None
        return named

    async def _asked_before_forgetting(
        self, candidates: list[JobAgent], submissions: Mapping[str, Submission]
    ) -> tuple[list[JobAgent], dict[str, Sighting]]:
        """Those that their own name does not bring back, and those that it does. No answer: nobody is forgotten."""
        if not candidates:
            return [], {}
        named = await self._named(candidates, submissions)
        if isinstance(named, Unknown):
            log.warning("%s: nobody is forgotten yet: %s", self._watch.machine, named.why)
            return [], {}
        return [record for record in candidates if record.agent not in named], named

    async def _named(
        self, records: Iterable[JobAgent], submissions: Mapping[str, Submission]
    ) -> dict[str, Sighting] | Unknown:
        """Live sightings of these agents by their submissions' names."""
        listing = await self._listed(sorted({record.submission for record in records}))
        if isinstance(listing, Unknown):
            return listing
        view, agents = counting.view(listing.rows, self._watch.ces, submissions), {record.agent for record in records}
        return {agent: view.ours[agent] for agent in _live(view) & agents}

    def _in_doubt(
        self, unresolved: list[tuple[Submission, str]], listed_at: datetime, sacct_trouble: str
    ) -> dict[str, str]:
        if not sacct_trouble:
            return {}
        doubtful = absence.undecidable(unresolved, listed_at, self._watch.listing_lag_s)
        return {
            ce: f"sacct did not say what became of {len(names)} unclear submissions: {sacct_trouble}"
            for ce, names in doubtful.items()
        }


def _live(view: View) -> set[str]:
    return {agent for agent, sighting in view.ours.items() if sighting.job.state.phase is not Phase.ENDED}
