"""What stays of finished job agents: which records leave the bucket when, as lines of the map and sums of a day. Pure.

A part of the map is written first, under its own number; then its sums are added to the day, which counts the parts
that it holds; then its records go. So a stop anywhere between is seen by who looks next, and nothing counts twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from libs.events.messages import AgentDay, AgentMap, Finished, JobAgent
from services.status_tracker.rules.counting import ACTIVE

KEPT_FOR = timedelta(days=8)
# With more finished agents than this on record the oldest leave sooner, as soon as their submissions have left.
MOST_FINISHED = 50_000
# Agents in one part of the map: about 40 kB.
PART = 250


def finished_at(record: JobAgent) -> datetime:
    """When it ended, as far as is known."""
    return record.end_at or record.missing_since or record.first_listed_at


def outdated(known: Iterable[JobAgent], submissions: Mapping[str, object], now: datetime) -> list[JobAgent]:
    """Records that may leave, the oldest first: over for long, or too many, and their submission left before them."""
    over = sorted((one for one in known if one.state not in ACTIVE), key=finished_at)
    surplus = max(0, len(over) - MOST_FINISHED)
    return [
        record
        for place, record in enumerate(over)
        if record.submission not in submissions and (place < surplus or now - finished_at(record) > KEPT_FOR)
    ]


def days(records: Iterable[JobAgent]) -> dict[tuple[str, str], list[JobAgent]]:
    """Records by (CE, day of ending in UTC)."""
    found: dict[tuple[str, str], list[JobAgent]] = {}
    for record in records:
        found.setdefault((record.ce, f"{finished_at(record).astimezone(UTC):%Y-%m-%d}"), []).append(record)
    return found


def key(ce: str, day: str, number: int | None = None) -> str:
    """Of a day in `agent_days`, or of a part of it in `agent_map`."""
    return f"{ce}.{day}" if number is None else f"{ce}.{day}.{number}"


def part(ce: str, day: str, records: Iterable[JobAgent]) -> AgentMap:
    """Records as a part of the map."""
    return AgentMap(ce=ce, day=day, agents=[line(record) for record in records])


def line(record: JobAgent) -> Finished:
    """One agent's line."""
    return Finished(
        agent=record.agent,
        job_id=record.job_id,
        node=record.nodes,
        submit_s=_unix_s(record.submit_at),
        start_s=_unix_s(record.start_at),
        end_s=_unix_s(record.end_at),
        ending=record.ending,
        exit_code=record.exit_code,
        run=record.run,
        node_hours=record.node_hours,
        working_hours=None if record.monitored_at is None else _working_hours(record),
        grid_jobs_total=record.grid_jobs_total,
        grid_jobs=record.grid_jobs,
    )


def life(record: JobAgent) -> tuple[int, int | None]:
    """What tells one life of an agent from another: its run and its end, as a line has them."""
    return record.run, _unix_s(record.end_at)


def summed(day: AgentDay, lines: Iterable[Finished]) -> AgentDay:
    """The day with these agents counted in, and one more part."""
    some = list(lines)
    heard = [one for one in some if one.working_hours is not None]
    endings = Counter(day.endings)
    endings.update(one.ending or "unknown" for one in some)
    return msgspec.structs.replace(
        day,
        agents=day.agents + len(some),
        endings=dict(endings),
        node_hours=round(day.node_hours + sum(one.node_hours or 0.0 for one in some), 4),
        monitored_node_hours=round(day.monitored_node_hours + sum(one.node_hours or 0.0 for one in heard), 4),
        working_hours=round(day.working_hours + sum(one.working_hours or 0.0 for one in heard), 4),
        grid_jobs=day.grid_jobs + sum(one.grid_jobs_total for one in some),
        parts=day.parts + 1,
    )


def _working_hours(record: JobAgent) -> float:
    """Node hours of an agent's run with grid jobs: it cannot have worked longer than it ran."""
    return round(min(record.working_s / 3600, record.node_hours or 0.0), 4)


def _unix_s(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
