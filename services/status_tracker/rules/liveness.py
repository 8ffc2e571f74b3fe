"""Which running job agent works, idles or is silent, joined from what its datagrams report. Pure: `now` comes in.

A report belongs to the agent of the Slurm job that it names, of a grid job that is known already, or of the process
that sent it; else to the agent on its host. Where several agents share a host, a process belongs to the only one that
has none yet, or to nobody, and of such a host no agent is called silent.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import Activity, JobAgent
from libs.runtime.errors import Malformed
from libs.slurm.hostlists import expanded
from services.status_tracker.rules.reports import Report

# JAliEn reports every two minutes, and needs some to start.
SILENT_AFTER = timedelta(minutes=10)
# A grid job reports every one or two minutes; one that has not for so long is over, or its end was lost.
JOB_LASTS = timedelta(minutes=5)
# Datagrams may overtake the listing that shows the agent's end.
JOINED_AFTER_END = timedelta(minutes=10)
# The last datagram's instant alone is written so seldom.
REFRESHED_AFTER = timedelta(minutes=30)
_NOW = timedelta()
# Ids of one agent's last grid jobs that its record holds; more are only counted.
GRID_JOBS_KEPT = 200


@dataclass(slots=True)
class News:
    """What was heard of one agent and is not in its record yet. `fruitless`: tries in vain since its last grid job."""

    jobs: list[int] = field(default_factory=list)
    total: int = 0
    fruitless: int = 0
    found_work: bool = False
    working_s: float = 0.0


@dataclass(slots=True)
class Heard:
    """What was heard of one agent since this process listens; `jobs` are those that live, by their last report.

    `telling`: the news that were folded into a record which is not durable yet.
    """

    at: datetime
    jobs: dict[int, datetime] = field(default_factory=dict)
    worked_at: datetime | None = None
    news: News = field(default_factory=News)
    telling: News | None = None


class Liveness:
    """Joins reports to the agents that `place` named, and is bounded by them. `since`: when it began to listen."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self.unjoined: Counter[str] = Counter()
        self._agents: dict[str, JobAgent] = {}
        self._on_host: dict[str, list[str]] = {}
        self._of_batch_job: dict[str, str] = {}
        self._of_process: dict[str, str] = {}
        self._of_grid_job: dict[int, str] = {}
        self._heard: dict[str, Heard] = {}
        self._crowded: set[str] = set()

    def place(self, records: Iterable[JobAgent], raw_ids: Mapping[str, int], now: datetime) -> None:
        """Know which agents there are now, where, and each one's own Slurm job id."""
        self._agents = {
            one.agent: one
            for one in records
            if one.nodes and (one.state == "running" or (one.end_at and now - one.end_at < JOINED_AFTER_END))
        }
        on_host: dict[str, list[str]] = {}
        for record in self._agents.values():
            for node in _nodes(record):
                on_host.setdefault(node, []).append(record.agent)
        for node, agents in on_host.items():
            # Who ended lately gives way to who runs there now.
            running = [agent for agent in agents if self._agents[agent].state == "running"]
            on_host[node] = running or agents
        self._on_host = on_host
        self._crowded = {agent for agents in on_host.values() if len(agents) > 1 for agent in agents}
        self._of_batch_job = {one.job_id: one.agent for one in self._agents.values()}
        self._of_batch_job |= {str(raw): agent for agent, raw in raw_ids.items() if agent in self._agents}
        self._of_process = {name: agent for name, agent in self._of_process.items() if agent in self._agents}
        self._of_grid_job = {job: agent for job, agent in self._of_grid_job.items() if agent in self._agents}
        self._heard = {agent: heard for agent, heard in self._heard.items() if agent in self._agents}
        for heard in self._heard.values():
            heard.jobs = {job: last for job, last in heard.jobs.items() if now - last <= JOB_LASTS}

    def agents(self) -> list[str]:
        """Those that reports can be joined to."""
        return list(self._agents)

    def is_hearing(self, now: datetime) -> bool:
        """Whether anything of anybody came lately: without that nothing is known of what agents do."""
        return any(now - heard.at <= SILENT_AFTER for heard in self._heard.values())

    def take(self, report: Report, at: datetime) -> None:
        """Take in one report that came at `at`; one that belongs to no agent is counted by why."""
        agent = self._agent_of(report)
        if agent is None:
            return
        heard = self._heard.get(agent)
        if heard is None:
            heard = self._heard[agent] = Heard(at=at)
        heard.at = max(heard.at, at)
        job = report.grid_job
        if job is not None:
            self._of_grid_job[job] = agent
            self._take_job(heard, self._agents[agent], job, report.working is not False, at)
        if report.working:
            if heard.worked_at is not None and timedelta() < at - heard.worked_at <= JOB_LASTS:
                heard.news.working_s += (at - heard.worked_at).total_seconds()
            heard.worked_at = max(heard.worked_at or at, at)
        elif report.working is False and not _lives(heard, at):
            heard.worked_at = None
        if report.requesting and not _lives(heard, at):
            heard.news.fruitless += 1

    def _take_job(self, heard: Heard, record: JobAgent, job: int, lives: bool, at: datetime) -> None:
        told = heard.telling.jobs if heard.telling else []
        if not (job in heard.jobs or job in record.grid_jobs or job in heard.news.jobs or job in told):
            heard.news.jobs = [*heard.news.jobs, job][-GRID_JOBS_KEPT:]
            heard.news.total += 1
            heard.news.fruitless, heard.news.found_work = 0, True
        if lives:
            heard.jobs[job] = at
        else:
            heard.jobs.pop(job, None)

    def _agent_of(self, report: Report) -> str | None:
        if report.batch_id:
            agent = self._of_batch_job.get(report.batch_id)
        elif report.grid_job is not None and report.grid_job in self._of_grid_job:
            agent = self._of_grid_job[report.grid_job]
        elif report.process in self._of_process:
            agent = self._of_process[report.process]
        else:
            return self._agent_on(report)
        if agent is None:
            self.unjoined["an unknown batch job"] += 1
        return agent

    def _agent_on(self, report: Report) -> str | None:
        candidates = self._on_host.get(report.host, [])
        if len(candidates) > 1 and report.process:
            taken = set(self._of_process.values())
            candidates = [agent for agent in candidates if agent not in taken]
        if len(candidates) != 1 or (not report.process and candidates[0] in self._crowded):
            self.unjoined["several agents on the host" if candidates else "no agent on the host"] += 1
            return None
        if report.process:
            self._of_process[report.process] = candidates[0]
        return candidates[0]

    def activities(self, now: datetime) -> dict[str, Activity]:
        """What each running agent does. Nobody is silent while less than half of those that should be heard are."""
        running = [one for one in self._agents.values() if one.state == "running" and one.start_at is not None]
        listened = now - self._since > SILENT_AFTER
        found: dict[str, Activity] = {}
        quiet: list[str] = []
        heard_of_old = 0
        for record in running:
            heard, old = self._heard.get(record.agent), listened and now - (record.start_at or now) > SILENT_AFTER
            last = max(filter(None, (heard.at if heard else None, record.monitored_at)), default=None)
            if last is not None and now - last <= SILENT_AFTER:
                found[record.agent] = "working" if heard is not None and _works(heard, now) else "idle"
                heard_of_old += old
            elif old and record.agent not in self._crowded:
                quiet.append(record.agent)
        if heard_of_old and heard_of_old >= len(quiet):
            found |= dict.fromkeys(quiet, "silent")
        return found

    def folded(self, record: JobAgent, activity: Activity, now: datetime) -> JobAgent:
        """The record with what was heard, when that is news; the same object when it is not."""
        heard = self._heard.get(record.agent)
        activity = activity if record.state == "running" else record.activity
        if heard is None:
            return msgspec.structs.replace(record, activity=activity) if activity != record.activity else record
        before, news = record.monitored_at, heard.telling or heard.news
        old_news = before is not None and heard.at - before <= (REFRESHED_AFTER if record.state == "running" else _NOW)
        if activity == record.activity and not news.total and old_news:
            return record
        heard.telling, heard.news = news, News() if news is heard.news else heard.news
        fresh = [job for job in news.jobs if job not in record.grid_jobs]
        return msgspec.structs.replace(
            record,
            activity=activity,
            monitored_at=max(before or heard.at, heard.at),
            grid_jobs=[*record.grid_jobs, *fresh][-GRID_JOBS_KEPT:],
            grid_jobs_total=record.grid_jobs_total + news.total - (len(news.jobs) - len(fresh)),
            fruitless=news.fruitless + (0 if news.found_work else record.fruitless),
            working_s=round(record.working_s + news.working_s, 1),
        )

    def told(self, record: JobAgent) -> None:
        """A folded record is durable: from here on only what is newer is told."""
        heard = self._heard.get(record.agent)
        if heard is not None:
            heard.telling = None
            self._agents[record.agent] = record


def _nodes(record: JobAgent) -> list[str]:
    try:
        return [node.partition(".")[0] for node in expanded(record.nodes)]
    except Malformed:
        return []


def _lives(heard: Heard, at: datetime) -> bool:
    """Whether one of the agent's grid jobs reported lately and not its end."""
    return any(at - last <= JOB_LASTS for last in heard.jobs.values())


def _works(heard: Heard, now: datetime) -> bool:
    return heard.worked_at is not None and now - heard.worked_at <= JOB_LASTS
