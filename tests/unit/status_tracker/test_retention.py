from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import AgentDay, JobAgent
from services.status_tracker.rules import retention
from services.status_tracker.rules.verdict import judged
from tests.unit.status_tracker.made import AT, NAME, after, record, submission


def over(number: int, **changes: object) -> JobAgent:
    about: dict[str, object] = {
        "agent": f"{NAME}.{number}", "index": number, "job_id": f"7_{number}", "nodes": "nid001",
        "slurm_state": "COMPLETED", "start_at": AT, "end_at": after(3600 + number), "node_hours": 1.0, "exit_code": 0,
    }  # fmt: skip
    return judged(record("ended", **about | changes), None)


def test_old_records_leave() -> None:
    """Over for eight days, and the submission gone before: then the record may go, the oldest first."""
    known = [
        record("running"),
        record("ended", agent="old", end_at=AT),
        record("forgotten", agent="lost", missing_since=after(-9)),
        record("ended", agent="bare", first_listed_at=after(-5)),
        record("ended", agent="held", end_at=AT, submission="s"),
        record("ended", agent="young", end_at=after(86400)),
    ]
    now = AT + timedelta(days=8, seconds=1)
    assert [one.agent for one in retention.outdated(known, {"s": submission()}, now)] == ["lost", "bare", "old"]


def test_too_many_records_leave_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest beyond the bound go as soon as their submissions have."""
    monkeypatch.setattr(retention, "MOST_FINISHED", 2)
    known = [over(3), over(1), over(2), over(0, submission="s"), record("running")]
    assert [one.index for one in retention.outdated(known, {"s": submission()}, after(9999))] == [1]


def test_days_are_of_one_ce_and_utc() -> None:
    """By the day on which it ended, as far as is known."""
    late = over(0, end_at=after(21 * 3600))
    other = over(1, ce="gpu-long")
    assert retention.days([late, other, over(2)]) == {
        ("cpu", "2026-11-24"): [late], ("gpu-long", "2026-11-23"): [other], ("cpu", "2026-11-23"): [over(2)],
    }  # fmt: skip
    assert (retention.key("cpu", "2026-11-24"), retention.key("cpu", "d", 3)) == ("cpu.2026-11-24", "cpu.d.3")


def test_a_line_of_the_map() -> None:
    """Who ran where, when, and what of ALICE's; compact, and read back as it was."""
    heard = over(4, monitored_at=after(9), working_s=1800.0, grid_jobs=[5, 6], grid_jobs_total=2)
    part = retention.part("cpu", "2026-11-23", [heard])
    text = msgspec.json.encode(part)
    assert len(text) < 250
    back = msgspec.json.decode(text, type=type(part)).agents[0]
    assert (back.agent, back.job_id, back.node, back.ending, back.exit_code) == (
        f"{NAME}.4",
        "7_4",
        "nid001",
        "completed",
        0,
    )
    assert (back.submit_s, back.start_s, back.end_s) == tuple(int(after(s).timestamp()) for s in (0, 0, 3604))
    assert (back.grid_jobs, back.grid_jobs_total, back.working_hours, back.node_hours) == ([5, 6], 2, 0.5, 1.0)
    assert retention.line(record("forgotten")).working_hours is None
    assert retention.life(heard) == (back.run, back.end_s)


def test_sums_of_a_day() -> None:
    """By ending; efficiency only over those that were heard, and nobody worked longer than it ran."""
    day = AgentDay(ce="cpu", day="d")
    heard = over(1, monitored_at=AT, working_s=9000.0, grid_jobs_total=3)
    mute = over(2, slurm_state="TIMEOUT", node_hours=None)
    lost = record("ended", slurm_state="RUNNING")
    found = retention.summed(day, [retention.line(one) for one in (heard, mute, lost)])
    assert found == AgentDay(
        ce="cpu", day="d", agents=3, endings={"completed": 1, "time_limit": 1, "unknown": 1}, node_hours=1.0,
        monitored_node_hours=1.0, working_hours=1.0, grid_jobs=3, parts=1,
    )  # fmt: skip


@given(st.lists(st.lists(st.integers(0, 500), max_size=20), max_size=8))
def test_parts_sum_up_in_any_division(parts: list[list[int]]) -> None:
    """However the agents of a day are divided, its sums are theirs."""
    day = AgentDay(ce="cpu", day="d")
    for part in parts:
        day = retention.summed(day, [retention.line(over(number)) for number in part])
    total = sum(map(len, parts))
    assert (day.agents, sum(day.endings.values()), day.node_hours, day.parts) == (
        total,
        total,
        float(total),
        len(parts),
    )
