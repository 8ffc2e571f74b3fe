from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import JobAgent
from services.status_tracker.rules.liveness import GRID_JOBS_KEPT, Liveness
from services.status_tracker.rules.reports import Report
from tests.unit.status_tracker.made import AT, after, record

HOUR_S = 3600.0


def agent(name: str, nodes: str = "nid001", **changes: Any) -> JobAgent:
    about: dict[str, Any] = {"agent": name, "nodes": nodes, "start_at": AT, "job_id": f"7_{name}"}
    about |= changes
    return record(about.pop("state", "running"), **about)


def placed(*agents: JobAgent, raw: dict[str, int] | None = None, at_s: float = 0, since_s: float = 0) -> Liveness:
    liveness = Liveness(after(since_s))
    liveness.place(agents, raw or {}, after(at_s))
    return liveness


def process(pid: int = 17, host: str = "nid001", **more: Any) -> Report:
    return Report(host, f"{host}:{pid}", **more)


def heard_by(liveness: Liveness, records: Sequence[JobAgent], at_s: float) -> list[str]:
    folded = [liveness.folded(one, "unknown", after(at_s)) for one in records]
    for one in folded:
        liveness.told(one)
    return [one.agent for one, before in zip(folded, records, strict=True) if one is not before]


def test_joined_by_host() -> None:
    """The only agent on a node has its datagrams, by process or host; others' datagrams are counted by why."""
    one, other = agent("a"), agent("b", "nid[002-003]")
    liveness = placed(one, other)
    liveness.take(process(), after(1))
    liveness.take(Report("nid003"), after(1))
    liveness.take(Report("nid009"), after(1))
    liveness.take(Report("nid001", batch_id="99"), after(1))
    assert heard_by(liveness, (one, other), 2) == ["a", "b"]
    assert liveness.unjoined == {"no agent on the host": 1, "an unknown batch job": 1}


def test_joined_by_slurms_id() -> None:
    """A batch job's id beats the host, as the array's task or as the task's own id."""
    one, other = agent("a"), agent("b")
    liveness = placed(one, other, raw={"b": 19, "gone": 20})
    liveness.take(Report("elsewhere", batch_id="7_a"), after(1))
    assert heard_by(liveness, (one, other), 2) == ["a"]
    liveness.take(Report("elsewhere", batch_id="19"), after(1))
    assert heard_by(liveness, (other,), 2) == ["b"]


def test_several_agents_on_a_host() -> None:
    """A process belongs to the only one that has none yet; without that it is nobody's."""
    one, other = agent("a", job_id="1"), agent("b", job_id="2")
    liveness = placed(one, other)
    liveness.take(process(1), after(1))
    liveness.take(Report("nid001"), after(1))
    assert liveness.unjoined == {"several agents on the host": 2}
    liveness.place([one], {}, after(2))
    liveness.take(process(1), after(3))
    liveness.place([one, other], {}, after(4))
    liveness.take(process(2), after(5))
    assert heard_by(liveness, (one, other), 6) == ["a", "b"]
    liveness.take(process(1, grid_job=5, working=True), after(6))
    assert liveness.folded(one, "unknown", after(7)).grid_jobs == [5]


def test_an_agent_that_ended_gives_way() -> None:
    """Late datagrams are its own as long as nobody else runs on its node; then only those of its known processes."""
    old = agent("a", state="ended", end_at=after(100))
    liveness = placed(old, at_s=101)
    liveness.take(process(1, grid_job=3), after(102))
    young = agent("b", start_at=after(110))
    liveness.place([old, young], {}, after(120))
    liveness.take(process(1, grid_job=3, working=False), after(121))
    liveness.take(process(2, grid_job=4, working=True), after(121))
    assert liveness.folded(young, "unknown", after(122)).grid_jobs == [4]
    assert liveness.folded(old, "unknown", after(122)).grid_jobs == [3]
    liveness.place([old, young], {}, after(100 + 601))
    assert liveness.agents() == ["b"]


def test_nodes_that_cannot_be_read_join_nothing() -> None:
    """Nor does an agent without a node."""
    liveness = placed(agent("a", "nid[1"), agent("b", ""))
    liveness.take(Report("nid"), after(1))
    assert liveness.unjoined == {"no agent on the host": 1}


def test_grid_jobs_are_counted_once() -> None:
    """However often one reports, from whichever process; the next fold brings only what is new."""
    one = agent("a")
    liveness = placed(one)
    liveness.take(process(grid_job=5, working=True), after(1))
    liveness.take(Report("", grid_job=5, working=True), after(2))
    first = liveness.folded(one, "working", after(3))
    assert (first.grid_jobs, first.grid_jobs_total, first.activity) == ([5], 1, "working")
    liveness.told(first)
    assert liveness.folded(first, "working", after(4)) is first
    liveness.take(Report("", grid_job=5, working=False), after(5))
    liveness.take(process(grid_job=6, working=True), after(6))
    second = liveness.folded(first, "working", after(7))
    assert (second.grid_jobs, second.grid_jobs_total) == ([5, 6], 2)


def test_news_are_told_until_they_are_durable() -> None:
    """A fold whose record could not be written is folded again, also when it was written after all."""
    one = agent("a")
    liveness = placed(one)
    liveness.take(process(grid_job=5, working=True), after(1))
    first = liveness.folded(one, "working", after(2))
    liveness.take(process(grid_job=6, working=True), after(3))
    assert liveness.folded(one, "working", after(4)).grid_jobs == [5]
    assert liveness.folded(first, "working", after(4)).grid_jobs_total == 1
    liveness.told(first)
    assert liveness.folded(first, "working", after(5)).grid_jobs == [5, 6]
    liveness.told(agent("nobody"))


def test_only_the_last_grid_jobs_are_kept() -> None:
    """More are counted."""
    one = agent("a")
    liveness = placed(one)
    for number in range(1, GRID_JOBS_KEPT + 11):
        liveness.take(process(grid_job=number, working=False), after(1))
    found = liveness.folded(one, "idle", after(2))
    assert (len(found.grid_jobs), found.grid_jobs[0], found.grid_jobs_total) == (
        GRID_JOBS_KEPT,
        11,
        GRID_JOBS_KEPT + 10,
    )


def test_tries_in_vain() -> None:
    """Counted since its last grid job, and only while it has none."""
    one = agent("a")
    liveness = placed(one)
    liveness.take(process(requesting=True), after(1))
    liveness.take(process(grid_job=5, working=True), after(2))
    liveness.take(process(18, requesting=True), after(3))
    liveness.take(Report("", grid_job=5, working=False), after(4))
    liveness.take(process(requesting=True), after(5))
    found = liveness.folded(one, "idle", after(6))
    assert (found.fruitless, found.grid_jobs_total) == (1, 1)
    liveness.told(found)
    liveness.take(process(requesting=True), after(7))
    again = liveness.folded(found, "unknown", after(8))
    assert again.fruitless == 2


def test_how_long_it_worked() -> None:
    """From report to report while it has grid jobs; gaps beyond what a job may be silent do not count."""
    one = agent("a")
    liveness = placed(one)
    for at_s in (0, 120, 240, 1000, 1060):
        liveness.take(process(grid_job=5, working=True), after(at_s))
    assert liveness.folded(one, "working", after(1061)).working_s == 300.0


def test_working_idle_silent() -> None:
    """By what was heard in the last minutes; silent only where others are heard."""
    working, idle, silent = agent("w", "nid001"), agent("i", "nid002"), agent("s", "nid003")
    young = agent("y", "nid004", start_at=after(HOUR_S - 60))
    liveness = placed(working, idle, silent, young, agent("q", "nid005", start_at=None))
    assert liveness.activities(after(HOUR_S)) == {}
    assert not liveness.is_hearing(after(HOUR_S))
    liveness.take(process(host="nid001", grid_job=1, working=True), after(HOUR_S))
    liveness.take(process(host="nid002", working=False), after(HOUR_S))
    assert liveness.is_hearing(after(HOUR_S + 1))
    found = liveness.activities(after(HOUR_S + 1))
    assert found == {"w": "working", "i": "idle", "s": "silent"}
    later = liveness.activities(after(HOUR_S + 400))
    assert later == {"w": "idle", "i": "idle", "s": "silent"}


def test_when_few_are_heard_nobody_is_silent() -> None:
    """Then it is the way of the datagrams that is broken, not the agents."""
    agents = [agent(str(number), f"nid00{number}") for number in range(4)]
    liveness = placed(*agents)
    liveness.take(process(host="nid000"), after(HOUR_S))
    assert liveness.activities(after(HOUR_S)) == {"0": "idle"}
    liveness.take(process(host="nid001"), after(HOUR_S))
    assert liveness.activities(after(HOUR_S)) == {"0": "idle", "1": "idle", "2": "silent", "3": "silent"}


def test_nobody_is_silent_right_after_a_restart() -> None:
    """We must have listened for as long as an agent may be quiet; what the record says of its last datagram counts."""
    quiet = agent("a", monitored_at=after(HOUR_S - 900))
    liveness = placed(quiet, agent("b", "nid002"), at_s=HOUR_S, since_s=HOUR_S)
    liveness.take(process(host="nid002"), after(HOUR_S + 590))
    assert liveness.activities(after(HOUR_S + 590)) == {"b": "idle"}
    assert liveness.activities(after(HOUR_S + 601)) == {"a": "silent", "b": "idle"}
    fresh = placed(agent("c", monitored_at=after(HOUR_S)), at_s=HOUR_S)
    assert fresh.activities(after(HOUR_S)) == {"c": "idle"}


def test_on_a_crowded_host_nobody_is_silent() -> None:
    """What cannot be joined says nothing about one of them."""
    liveness = placed(agent("a"), agent("b", job_id="2"), agent("c", "nid002"))
    liveness.take(process(host="nid002"), after(HOUR_S))
    assert liveness.activities(after(HOUR_S)) == {"c": "idle"}


def test_the_last_datagram_is_refreshed_seldom() -> None:
    """Alone it is worth a write only now and then, and once after the end."""
    one = agent("a", monitored_at=AT, activity="idle")
    liveness = placed(one)
    liveness.take(process(), after(1700))
    assert liveness.folded(one, "idle", after(1701)) is one
    liveness.take(process(), after(1801))
    refreshed = liveness.folded(one, "idle", after(1802))
    assert refreshed.monitored_at == after(1801)
    liveness.told(refreshed)
    over = agent("a", state="ended", monitored_at=after(1801), end_at=after(1900))
    liveness.place([over], {}, after(1900))
    liveness.take(process(), after(1850))
    last = liveness.folded(over, "unknown", after(1900))
    assert (last.monitored_at, last.activity) == (after(1850), "unknown")
    assert liveness.folded(last, "unknown", after(1901)) is last


def test_an_activity_without_a_datagram() -> None:
    """Silence is news, too, and so is that nothing is known any more."""
    one = agent("a")
    liveness = placed(one)
    silent = liveness.folded(one, "silent", after(1))
    assert silent.activity == "silent" and silent.monitored_at is None
    assert liveness.folded(silent, "silent", after(1)) is silent
    assert liveness.folded(silent, "unknown", after(1)).activity == "unknown"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans(), st.integers(0, 2000)), max_size=40))
def test_what_is_kept_is_bounded_and_never_negative(reports: list[tuple[int, int, bool, int]]) -> None:
    """Any reports in any order: totals never fall, an agent never worked longer than it was heard."""
    agents = [agent(str(number), f"nid00{number}") for number in range(3)]
    liveness = placed(*agents)
    records = {one.agent: one for one in agents}
    for host, job, working, at_s in reports:
        liveness.take(process(host=f"nid00{host}", grid_job=job, working=working), after(at_s))
        for name, before in records.items():
            found = liveness.folded(before, "unknown", after(at_s))
            assert found.grid_jobs_total >= before.grid_jobs_total
            assert found.grid_jobs_total == len(found.grid_jobs) == len(set(found.grid_jobs))
            assert 0 <= found.working_s <= 2000 * len(reports)
            if found is not before:
                liveness.told(found)
                records[name] = found
    liveness.place([], {}, after(3000))
    assert liveness.agents() == []
    assert not liveness.is_hearing(AT + timedelta(hours=9))
