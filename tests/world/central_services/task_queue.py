"""The task queue: grid jobs, the CEs' limits and locks, and what became of each job, durable in one SQLite file."""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.world.central_services.matching import Where

# Real grid jobs have numbers beyond 32 bits.
_FIRST_ID = 3_000_000_001

_COLUMNS = 12
_SCHEMA = """
create table if not exists ces(name text primary key, locked integer not null default 0,
    max_jobs integer, max_queued integer, listed integer not null default 1);
create table if not exists grid_jobs(id integer primary key, ce text not null, state text not null, run_s real not null,
    ttl_s integer not null, cores integer not null, added_at text not null, user text not null, partition text not null,
    sites text not null, no_ces text not null, disk_kb integer not null);
create index if not exists grid_jobs_in_state on grid_jobs(state, id);
create table if not exists takes(grid_job_id integer not null, agent text not null, run text not null,
    at text not null);
create index if not exists takes_by_agent on takes(agent);
create table if not exists dones(grid_job_id integer not null, agent text not null, run text not null, at text not null,
    unique(grid_job_id, agent, run));
create table if not exists agents(agent text not null, run text not null, datagrams_sent integer not null,
    reported_at text not null, primary key(agent, run));
"""


class UnknownCe(Exception):
    """No such CE here, or a short name that several have."""


class NotHeld(Exception):
    """The agent never took the grid job it reports as done."""


@dataclass(frozen=True)
class Limits:
    """None: not set, which central services answer with `no limits`."""

    max_jobs: int | None
    max_queued: int | None


@dataclass(frozen=True)
class Needs:
    """What a grid job needs of a site: less than what the site offers in time and disk, at most its cores.

    `partition` `%` is any; no `sites` are all; `no_ces` are full names.
    """

    user: str
    ttl_s: int
    cores: int
    partition: str = "%"
    sites: Sequence[str] = ()
    no_ces: Sequence[str] = ()
    disk_kb: int = 0


@dataclass(frozen=True)
class Taken:
    """A grid job in the hands of an agent."""

    grid_job_id: int
    run_s: float


class TaskQueue:
    """One process, one connection: each method is one transaction, so matching is atomic."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # A killed process loses nothing with WAL; only a crash of the machine could lose the last transactions.
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        # Names are case sensitive in the real database.
        self._db.execute("pragma case_sensitive_like=on")
        self._db.executescript(_SCHEMA)
        if len(self._db.execute("pragma table_info(grid_jobs)").fetchall()) != _COLUMNS:
            self._db.close()
            raise OSError(f"{path} was written by another version of this program; remove it")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("begin immediate")
        try:
            yield self._db
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def add_ce(self, name: str, limits: Limits) -> bool:
        """Sets a CE up, and tells whether it is new; one that was set up keeps its lock and limits."""
        with self._transaction() as db:
            if db.execute("select 1 from ces where name = ? and listed", (name,)).fetchone():
                return False
            db.execute("delete from ces where name = ?", (name,))
            insert = "insert into ces(name, max_jobs, max_queued) values(?, ?, ?)"
            db.execute(insert, (name, limits.max_jobs, limits.max_queued))
        return True

    def resolve(self, name: str) -> str:
        """The full name of a CE given by its full or short name. Raises UnknownCe."""
        names = [str(row["name"]) for row in self._db.execute("select name from ces where listed")]
        found = [full for full in names if full == name] or [full for full in names if full.rpartition("::")[2] == name]
        if len(found) != 1:
            raise UnknownCe(f"{'several CEs have' if found else 'no CE has'} the name {name!r}")
        return found[0]

    def set_lock(self, ce: str, locked: bool) -> None:
        self._db.execute("update ces set locked = ? where name = ?", (locked, ce))

    def set_limits(self, ce: str, limits: Limits) -> None:
        self._db.execute(
            "update ces set max_jobs = ?, max_queued = ? where name = ?", (limits.max_jobs, limits.max_queued, ce)
        )

    def is_open(self, ce: str) -> bool:
        """Whether the CE is not locked; one never heard of is closed this once, then open without limits."""
        with self._transaction() as db:
            row = db.execute("select locked from ces where name = ?", (ce,)).fetchone()
            if row is None:
                db.execute("insert into ces(name, listed) values(?, 0)", (ce,))
            return row is not None and not row["locked"]

    def limits(self, ce: str) -> Limits:
        row = self._db.execute("select max_jobs, max_queued from ces where name = ?", (ce,)).fetchone()
        return Limits(row["max_jobs"], row["max_queued"]) if row else Limits(None, None)

    def add_grid_jobs(self, ce: str, count: int, needs: Needs, *, run_s: float) -> list[int]:
        """Adds `count` waiting grid jobs for a CE (full name), or for any (``); their ids."""
        fixed = (needs.ttl_s, needs.cores, _now(), needs.user, needs.partition)
        lists = (_listed(needs.sites), _listed(needs.no_ces), needs.disk_kb)
        with self._transaction() as db:
            (last,) = db.execute("select max(id) from grid_jobs").fetchone()
            first = _FIRST_ID if last is None else last + 1
            rows = [(first + i, ce, "waiting", run_s, *fixed, *lists) for i in range(count)]
            db.executemany(f"insert into grid_jobs values({', '.join('?' * _COLUMNS)})", rows)
        return [int(row[0]) for row in rows]

    def waiting(self, wanted: Where) -> int | None:
        """How many waiting grid jobs match; None when none does (SQL's sum over no rows)."""
        query = f"select sum(1) as n from grid_jobs where state = 'waiting' and {wanted.text}"
        found = self._db.execute(query, wanted.values).fetchone()["n"]
        return None if found is None else int(found)

    def users(self) -> frozenset[str]:
        """Everyone who ever had a grid job."""
        return frozenset(str(row["user"]) for row in self._db.execute("select distinct user from grid_jobs"))

    def by_user(self) -> dict[str, tuple[int, int]]:
        """Running and waiting grid jobs of each user who has any."""
        query = """select user, sum(state = 'running') as running, sum(state = 'waiting') as waiting from grid_jobs
            where state in ('running', 'waiting') group by user"""
        return {str(row["user"]): (int(row["running"]), int(row["waiting"])) for row in self._db.execute(query)}

    def match(self, agent: str, run: str, ce: str, wanted: Where) -> Taken | None:
        """Gives the agent a waiting grid job that the CE wants, or again the one it holds (its last answer was lost).

        Another run of the same agent (its batch job was requeued) gets the held job too, but that is a take of its own.
        """
        held = """select g.id, g.run_s, exists(select 1 from takes o where o.grid_job_id = g.id and o.agent = t.agent
            and o.run = ?) as same_run from takes t join grid_jobs g on g.id = t.grid_job_id
            where t.agent = ? and g.ce in ('', ?) and g.state = 'running' limit 1"""
        first = f"""select id, run_s, 0 as same_run from grid_jobs where state = 'waiting' and {wanted.text}
            order by id limit 1"""
        with self._transaction() as db:
            row = db.execute(held, (run, agent, ce)).fetchone() or db.execute(first, wanted.values).fetchone()
            if row is None:
                return None
            if not row["same_run"]:
                db.execute("insert into takes values(?, ?, ?, ?)", (row["id"], agent, run, _now()))
                db.execute("update grid_jobs set state = 'running' where id = ?", (row["id"],))
            return Taken(int(row["id"]), float(row["run_s"]))

    def done(self, agent: str, run: str, grid_job_id: int) -> None:
        """Records the end of a grid job, once per run of an agent. Raises NotHeld."""
        with self._transaction() as db:
            held = "select 1 from takes where grid_job_id = ? and agent = ? and run = ?"
            if db.execute(held, (grid_job_id, agent, run)).fetchone() is None:
                raise NotHeld(f"agent {agent} did not take grid job {grid_job_id}")
            db.execute("insert or ignore into dones values(?, ?, ?, ?)", (grid_job_id, agent, run, _now()))
            db.execute("update grid_jobs set state = 'done' where id = ?", (grid_job_id,))

    def give_back(self, agent: str) -> int:
        """Let the grid jobs that a dead agent holds wait again; returns how many there were."""
        held = """update grid_jobs set state = 'waiting' where state = 'running'
            and id in (select grid_job_id from takes where agent = ?1)
            and ?1 = (select agent from takes where grid_job_id = grid_jobs.id order by rowid desc limit 1)"""
        with self._transaction() as db:
            return db.execute(held, (agent,)).rowcount

    def report(self, agent: str, run: str, datagrams_sent: int) -> None:
        """Records how many datagrams a run of an agent has sent so far."""
        self._db.execute(
            """insert into agents values(?, ?, ?, ?) on conflict(agent, run) do update set
            datagrams_sent = max(datagrams_sent, excluded.datagrams_sent), reported_at = excluded.reported_at""",
            (agent, run, datagrams_sent, _now()),
        )

    def counts(self, ce: str | None = None) -> dict[str, int]:
        """Grid jobs by state: {waiting, running, done}, of one CE or of all."""
        found = {"waiting": 0, "running": 0, "done": 0}
        query = "select state, count(*) as n from grid_jobs where ?1 is null or ce = ?1 group by state"
        return found | {str(row["state"]): int(row["n"]) for row in self._db.execute(query, (ce,))}

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that happened: {grid_jobs: [{id, ce, state, takes, dones ...}], agents: [...]}."""
        jobs = {
            row["id"]: dict(row) | {"takes": [], "dones": []}
            for row in self._db.execute("select id, ce, state, run_s, added_at from grid_jobs order by id")
        }
        for kind in ("takes", "dones"):
            for row in self._db.execute(f"select * from {kind} order by rowid"):
                jobs[row["grid_job_id"]][kind].append({"agent": row["agent"], "at": row["at"], "run": row["run"]})
        agents = [dict(row) for row in self._db.execute("select * from agents order by reported_at")]
        return {"grid_jobs": list(jobs.values()), "agents": agents}


def _listed(names: Sequence[str]) -> str:
    return f",{','.join(names)}," if names else ""


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
