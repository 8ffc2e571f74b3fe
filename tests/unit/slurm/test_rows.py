from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed
from libs.slurm import rows
from libs.slurm.states import Ending, Phase
from tests.unit.slurm import golden

ZULU = ZoneInfo("UTC")
PACIFIC = ZoneInfo("America/Los_Angeles")
PREFIX = "nacre-cpu-20261123t0300-a1-"


def _named(parsed: rows.Parsed, name: str) -> list[rows.BatchJob]:
    return [job for job in parsed.jobs if job.name == PREFIX + name]


def test_a_live_listing_of_a_real_slurm() -> None:
    """Pending blocks, running and completing tasks of a real squeue come out with their names and array indices."""
    parsed = rows.parse_squeue(golden.rows("squeue-live.txt"), ZULU)
    (hold,) = _named(parsed, "hold")
    assert (hold.array_job_id, hold.indices, hold.state.phase) == (8, tuple(range(10)), Phase.QUEUED)
    assert hold.comment == f"nacre:name={PREFIX}hold,replaces=-"
    assert (hold.started_at, hold.ended_at, hold.reason, hold.qos) == (None, None, "JobHeldUser", "regular")
    assert Counter(job.state.name for job in _named(parsed, "thr")) == {"PENDING": 1, "RUNNING": 2}
    assert sum(job.jobs for job in _named(parsed, "thr")) == 10
    assert sum(job.jobs for job in _named(parsed, "step")) == 100
    (requeued,) = _named(parsed, "rq")
    assert (requeued.state.name, requeued.state.phase) == ("COMPLETING", Phase.RUNNING)
    running = _named(parsed, "run")[0]
    assert running.started_at == datetime(2026, 11, 23, 3, 8, 12, tzinfo=UTC)
    assert (running.ended_at, running.node_list, running.user) == (None, "nid001", "root")


def test_a_cut_list_and_a_slipped_row_are_faults() -> None:
    """A list cut at 64 characters is not counted, a row whose comment holds a bar is not believed; both are named."""
    parsed = rows.parse_squeue(golden.rows("squeue-live.txt"), ZULU)
    (cut,) = _named(parsed, "cut")
    assert cut.indices is None
    with pytest.raises(Malformed, match="cannot be counted"):
        _ = cut.jobs
    assert len(parsed.faults) == 2
    assert any("row 14: its list of array tasks was cut" in fault for fault in parsed.faults)
    assert len(parsed.jobs) == len(golden.rows("squeue-live.txt")) - 1


def test_every_state_of_squeue() -> None:
    """Ended jobs that squeue still shows have an end; a pending block cancelled as a whole is one row of ten tasks."""
    parsed = rows.parse_squeue(golden.rows("squeue-every-state.txt"), ZULU)
    endings = {job.name.removeprefix(PREFIX): job.state.ending for job in parsed.jobs}
    assert endings["ok"] is Ending.OK
    assert endings["fail"] is endings["void"] is endings["sig"] is Ending.FAILED
    assert endings["tl"] is Ending.TIME_LIMIT
    assert endings["nf"] is Ending.NODE_FAILED
    (hold,) = _named(parsed, "hold")
    assert (hold.jobs, hold.state.ending) == (10, Ending.CANCELLED)
    assert all(job.ended_at for job in parsed.jobs if job.state.phase is Phase.ENDED)
    assert all(job.exit_code is None for job in parsed.jobs)


def test_a_day_of_sacct() -> None:
    """sacct gives exit codes, signals and ends; steps of jobs are left out, and a live job has no exit code yet."""
    parsed = rows.parse_sacct(golden.rows("sacct-day.txt"), ZULU)
    assert parsed.faults == ()
    by_name = {job.name.removeprefix(PREFIX): job for job in parsed.jobs}
    assert (by_name["ok"].exit_code, by_name["ok"].signal) == (0, 0)
    assert (by_name["fail"].exit_code, by_name["fail"].indices) in [(3, (0,)), (3, (1,))]
    assert by_name["void"].exit_code == 85
    assert (by_name["sig"].exit_code, by_name["sig"].signal) == (0, 11)
    assert (by_name["canc"].state.name, by_name["canc"].state.cancelled_by) == ("CANCELLED", 0)
    assert (by_name["nf"].state.ending, by_name["tl"].state.ending) == (Ending.NODE_FAILED, Ending.TIME_LIMIT)
    stranger = by_name["stranger"]
    assert (stranger.indices, stranger.jobs, stranger.exit_code, stranger.ended_at) == ((), 1, None, None)
    assert "hold" not in by_name


def test_sacct_by_id() -> None:
    """By id sacct shows pending and cancelled blocks, and cuts lists as squeue does."""
    parsed = rows.parse_sacct(golden.rows("sacct-by-id.txt"), ZULU)
    (hold,) = _named(parsed, "hold")
    assert (hold.indices, hold.state.ending) == (tuple(range(10)), Ending.CANCELLED)
    assert (hold.started_at, hold.node_list) == (None, "")
    assert [job.indices for job in _named(parsed, "cut")] == [None]
    assert len(parsed.faults) == 1


def test_instants_are_local_to_the_machine() -> None:
    """An instant without a zone is the machine's local time, summer and winter; the repeated hour is its first pass."""
    assert rows.parse_instant("2026-07-01T00:00:00", PACIFIC) == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert rows.parse_instant("2026-12-01T00:00:00", PACIFIC) == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert rows.parse_instant("2026-11-01T01:30:00", PACIFIC) == datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
    assert rows.parse_instant("2026-12-01T00:00:00+02:00", PACIFIC) == datetime(2026, 11, 30, 22, tzinfo=UTC)
    assert [rows.parse_instant(text, ZULU) for text in ("Unknown", "N/A", "None", "")] == [None] * 4
    for text in ("tomorrow", "2026-13-01T00:00:00", "9999-12-31T23:59:59-10:00"):
        with pytest.raises(Malformed):
            rows.parse_instant(text, ZULU)


SQUEUE_ROW = golden.rows("squeue-live.txt")[1]
SACCT_ROW = next(row for row in golden.rows("sacct-day.txt") if row["jobid"] == "1_0")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "nid001"),
        ("state", None),
        ("array_job_id", "(null)"),
        ("array_task_id", "nonsense"),
        ("submit_time", "regular"),
        ("name", 7),
    ],
)
def test_a_squeue_row_with_a_wrong_column_is_a_fault(column: str, value: object) -> None:
    """A wrong or missing column makes a fault that names the job; the other rows are read."""
    parsed = rows.parse_squeue([SQUEUE_ROW | {column: value}, SQUEUE_ROW], ZULU)
    assert (len(parsed.jobs), len(parsed.faults)) == (1, 1)
    assert parsed.faults[0].startswith(f"squeue row {SQUEUE_ROW['jobid']}")


@pytest.mark.parametrize(
    ("column", "value"),
    [("jobid", "x_1"), ("exitcode", "0"), ("state", "?!"), ("end", "later"), ("jobid", "5_[1,2")],
)
def test_a_sacct_row_with_a_wrong_column_is_a_fault(column: str, value: object) -> None:
    """The same for sacct."""
    parsed = rows.parse_sacct([SACCT_ROW | {column: value}, {}], ZULU)
    assert (len(parsed.jobs), len(parsed.faults)) == (0, 2)


def test_texts_for_people_may_be_missing() -> None:
    """A facility that leaves out comment, reason or QOS makes poorer records, not an incomplete listing."""
    bare = {column: SQUEUE_ROW[column] for column in SQUEUE_ROW if column not in {"comment", "reason", "qos"}}
    (job,) = rows.parse_squeue([bare | {"account": 3}], ZULU).jobs
    assert (job.comment, job.reason, job.qos, job.account) == ("", "", "", "")


def test_heterogeneous_jobs_and_unknown_states_are_kept() -> None:
    """`12+0` is a job; a state never heard of is kept as UNKNOWN with its text."""
    (job,) = rows.parse_sacct([SACCT_ROW | {"jobid": "12+0", "state": "HIBERNATING"}], ZULU).jobs
    assert (job.array_job_id, job.state.phase, job.state.text) == (12, Phase.UNKNOWN, "HIBERNATING")


@given(
    st.dictionaries(
        st.sampled_from(sorted(SQUEUE_ROW)),
        st.one_of(st.none(), st.text(max_size=30), st.integers(), st.sampled_from(list(SQUEUE_ROW.values()))),
    )
)
def test_no_row_is_dropped_in_silence(changes: dict[str, object]) -> None:
    """Whatever a row holds, it is read or it is a fault; nothing else, and never an exception."""
    parsed = rows.parse_squeue([SQUEUE_ROW | changes], ZULU)
    assert len(parsed.jobs) + len(parsed.faults) >= 1
    parsed = rows.parse_sacct([SACCT_ROW | {"jobid": "5_0"} | changes], ZULU)
    assert len(parsed.jobs) + len(parsed.faults) >= 1
