import itertools
from datetime import datetime
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import AgentState, JobAgent
from libs.slurm.states import Phase
from services.status_tracker.rules import counting, lifecycle
from services.status_tracker.rules.counting import Sighting
from tests.unit.status_tracker.made import AT, NAME, after, job, record, sighting, submission


def seen(before: JobAgent | None, one: Sighting, listed_at: datetime = AT) -> JobAgent:
    return lifecycle.seen(before, one, machine="perlmutter", listed_at=listed_at)


def test_the_table_is_whole() -> None:
    """Every progress of a run meets every phase, and ended leads nowhere else."""
    runs = [None, *(state for state in get_args(AgentState) if state not in {"unaccounted", "forgotten"})]
    assert set(lifecycle.SAME_RUN) == set(itertools.product(runs, Phase))
    assert {lifecycle.SAME_RUN["ended", phase] for phase in Phase} == {"ended"}


def test_the_life_of_an_agent() -> None:
    """Queued, running, ended: each row brings its details, and the first listing's instant stays."""
    new = seen(None, sighting("PENDING", reason="Priority"), after(1))
    assert (new.state, new.job_id, new.reason, new.first_listed_at) == ("queued", "7_0", "Priority", after(1))
    runs = seen(new, sighting("RUNNING", node_list="nid001", started_at=after(5)), after(9))
    assert (runs.state, runs.nodes, runs.start_at, runs.first_listed_at) == ("running", "nid001", after(5), after(1))
    over = seen(runs, sighting("FAILED", exit_code=3, signal=0, ended_at=after(20)))
    assert (over.state, over.exit_code, over.end_at, over.nodes) == ("ended", 3, after(20), "nid001")
    assert over.verdict == "failed with exit code 3 on nid001"
    assert seen(over, sighting("RUNNING")) == over


def test_an_agent_may_be_ended_at_first_sight() -> None:
    """A job shorter than a cycle is first seen in sacct."""
    over = seen(None, sighting("COMPLETED", exit_code=0, signal=0), after(3))
    assert (over.state, over.verdict, over.first_listed_at) == ("ended", "completed", after(3))


def test_a_requeue_is_a_new_run() -> None:
    """A later submit instant is Slurm's own requeue: the agent lives again, with nothing left of the run before."""
    over = seen(record("running"), sighting("NODE_FAIL", exit_code=1, signal=0, node_list="nid001", ended_at=after(5)))
    again = seen(over, sighting("PENDING", submitted_at=after(9)))
    assert (again.state, again.run, again.submit_at) == ("queued", 1, after(9))
    assert (again.exit_code, again.end_at, again.nodes, again.verdict) == (None, None, "", "")
    assert seen(again, sighting("NODE_FAIL", exit_code=1, signal=0, node_list="nid001")) == again


def test_missing_and_back() -> None:
    """A missing agent is unaccounted since then; any row of its run puts it back to where it was."""
    gone = lifecycle.missing(record("running"), after(60))
    assert (gone.state, gone.missing_since) == ("unaccounted", after(60))
    assert lifecycle.missing(gone, after(120)) == gone
    for late in ("PENDING", "RUNNING", "HIBERNATING"):
        back = seen(gone, sighting(late))
        assert (back.state, back.missing_since) == ("running", None)
    over = seen(gone, sighting("COMPLETED", exit_code=0, signal=0))
    assert (over.state, over.missing_since) == ("ended", None)


def test_forgotten_only_when_unaccounted_and_not_for_ever() -> None:
    """Only an unaccounted agent is forgotten; if Slurm remembers after all, it counts again."""
    assert lifecycle.forgotten(record("running")) == record("running")
    assert lifecycle.missing(record("ended"), AT) == record("ended")
    lost = lifecycle.forgotten(lifecycle.missing(record("queued"), AT))
    assert lost.state == "forgotten" and "knows nothing" in lost.verdict
    back = seen(lost, sighting("PENDING"))
    assert (back.state, back.verdict, back.missing_since) == ("queued", "", None)


def test_accepted_but_never_seen() -> None:
    """An agent that no listing ever showed is unaccounted, counted from that listing on, and found by its first row."""
    made = lifecycle.never_seen(submission(), f"{NAME}.3", listed_at=after(9))
    assert (made.agent, made.index, made.rank, made.state, made.job_id) == (f"{NAME}.3", 3, 0, "unaccounted", "7_3")
    assert made.first_listed_at == made.missing_since == after(9)
    assert lifecycle.progress(made) is None
    found = seen(made, sighting("PENDING"))
    assert (found.state, found.run, found.first_listed_at) == ("queued", 0, after(9))
    bare = lifecycle.never_seen(submission("unclear", agents_per_job=4), f"{NAME}.3.2", listed_at=AT)
    assert (bare.job_id, bare.index, bare.rank) == ("", 3, 2)


def test_an_unknown_state_moves_nothing() -> None:
    """A state of a newer Slurm proves presence; the record keeps the last state that we knew."""
    for state in ("queued", "running", "ended"):
        after_it = seen(record(state), sighting("HIBERNATING", reason="odd"))
        assert (after_it.state, after_it.slurm_state) == (state, record(state).slurm_state)
    new = seen(None, sighting("HIBERNATING"))
    assert (new.state, new.slurm_state) == ("queued", "HIBERNATING")
    assert lifecycle.missing(new, AT).state == "unaccounted"
    assert lifecycle.progress(lifecycle.missing(new, AT)) == "queued"
    assert seen(new, sighting("RUNNING")).slurm_state == "RUNNING"


def test_squeue_does_not_take_an_exit_code_away() -> None:
    """An ended row without an exit code adds to what sacct said, and the other way round."""
    by_sacct = seen(record("running"), sighting("FAILED", exit_code=3, signal=0))
    assert seen(by_sacct, sighting("FAILED", ended_at=after(9))).exit_code == 3
    by_squeue = seen(record("running"), sighting("FAILED", ended_at=after(9)))
    assert (by_squeue.exit_code, by_squeue.verdict) == (None, "failed")
    both = seen(by_squeue, sighting("FAILED", exit_code=85, signal=0))
    assert (both.exit_code, both.end_at) == (85, after(9))


def test_what_a_run_took() -> None:
    """Node hours are sacct's elapsed time on all its nodes, else its instants' difference, else not known."""
    about = {"started_at": AT, "ended_at": after(7200), "nodes": 3}
    assert seen(None, sighting("COMPLETED", **about)).node_hours == 6.0
    by_sacct = seen(None, sighting("COMPLETED", **about, elapsed_s=3600))
    assert by_sacct.node_hours == 3.0
    assert seen(by_sacct, sighting("COMPLETED", **about)).node_hours == 3.0
    assert seen(None, sighting("COMPLETED")).node_hours is None
    assert seen(None, sighting("RUNNING", **about)).node_hours is None


def test_agents_of_one_batch_job_share_its_state_not_its_nodes() -> None:
    """Each rank has its own node and its own hours."""
    row = job("COMPLETED", node_list="nid[001-002]", nodes=2, elapsed_s=3600, comment="nacre:name=x,per_job=2")
    first, second = (seen(None, one) for one in counting.sightings(row, {"cpu"}))
    assert [(one.agent, one.nodes, one.node_hours) for one in (first, second)] == [
        (f"{NAME}.0.0", "nid001", 1.0),
        (f"{NAME}.0.1", "nid002", 1.0),
    ]


def test_routine_reasons_are_no_news() -> None:
    """A pending agent is not written again because Priority became Resources; anything else is news."""
    waits = seen(None, sighting("PENDING", reason="Priority"))
    assert lifecycle.news(None, waits)
    assert not lifecycle.news(waits, waits)
    assert not lifecycle.news(waits, seen(waits, sighting("PENDING", reason="Resources")))
    assert lifecycle.news(waits, seen(waits, sighting("PENDING", reason="JobHeldUser")))
    assert lifecycle.news(waits, seen(waits, sighting("RUNNING", reason="")))


def test_what_is_worth_an_event() -> None:
    """A change of state, node, verdict or activity; not that a datagram came."""
    runs = record("running")
    assert lifecycle.worth_telling(None, runs)
    assert lifecycle.worth_telling(runs, record("ended"))
    assert lifecycle.worth_telling(runs, record("running", activity="working"))
    assert not lifecycle.worth_telling(runs, record("running", monitored_at=AT, grid_jobs=[1], grid_jobs_total=1))


def test_a_plain_job_has_no_array_index() -> None:
    """A job of ours without an array is agent 0, under its bare id."""
    plain = seen(None, sighting("RUNNING", indices=()))
    assert (plain.agent, plain.job_id) == (f"{NAME}.0", "7")


# The truth of one agent: runs with their submit instants; each run may be seen in any phase, in any order, repeatedly.
_PHASES = ["PENDING", "RUNNING", "COMPLETING", "COMPLETED", "NODE_FAIL", "HIBERNATING"]


def _rows_of_a_run(number: int, ending: str) -> list[Sighting]:
    about = {"submitted_at": after(1000 * number)}
    return [
        sighting("PENDING", **about),
        sighting("RUNNING", **about, started_at=after(1000 * number + 5), node_list="nid001"),
        sighting("HIBERNATING", **about),
        sighting(
            ending,
            **about,
            started_at=after(1000 * number + 5),
            node_list="nid001",
            ended_at=after(1000 * number + 9),
            exit_code=1,
            signal=0,
        ),
    ]


def _essence(one: JobAgent) -> tuple[object, ...]:
    return one.state, one.submit_at, one.slurm_state, one.exit_code, one.end_at, one.start_at, one.nodes, one.verdict


@given(
    st.integers(1, 3).flatmap(
        lambda runs: st.tuples(
            st.just(runs),
            st.permutations([(run, row) for run in range(runs) for row in range(4)]),
            st.lists(st.tuples(st.integers(0, runs - 1), st.integers(0, 3)), max_size=8),
            st.lists(st.sampled_from(["missing", "forgotten"]), max_size=4),
        )
    )
)
def test_any_order_and_repetition_converges(
    case: tuple[int, list[tuple[int, int]], list[tuple[int, int]], list[str]],
) -> None:
    """However late, often or mixed with absences the rows of all runs come, the record ends as the last run did."""
    runs, order, repeated, absences = case
    rows = [_rows_of_a_run(run, "NODE_FAIL" if run < runs - 1 else "COMPLETED") for run in range(runs)]
    straight: JobAgent | None = None
    for run, row in itertools.product(range(runs), (0, 1, 3)):
        straight = seen(straight, rows[run][row])
    mixed: JobAgent | None = None
    for number, (run, row) in enumerate([*repeated, *order, *repeated]):
        mixed = seen(mixed, rows[run][row])
        if number < len(absences):
            step = lifecycle.forgotten if absences[number] == "forgotten" else None
            mixed = step(mixed) if step else lifecycle.missing(mixed, AT)
    assert straight is not None and mixed is not None
    assert _essence(mixed) == _essence(straight)
    assert mixed.state == "ended"


@given(st.sampled_from(_PHASES), st.integers(-5, 0))
def test_ended_stays_ended(state: str, seconds: int) -> None:
    """No row of the same or an earlier run, no absence and no forgetting moves an ended agent."""
    over = seen(record("running"), sighting("COMPLETED", exit_code=0, signal=0))
    assert seen(over, sighting(state, submitted_at=after(seconds))).state == "ended"
    assert seen(over, sighting(state, submitted_at=None)).state == "ended"
    assert lifecycle.forgotten(lifecycle.missing(over, AT)) == over


def test_several_tasks_of_one_row() -> None:
    """A pending block brings on each of its agents by itself."""
    block = counting.sightings(job("PENDING", indices=(0, 1, 2)), {"cpu"})
    assert [seen(None, one).job_id for one in block] == ["7_0", "7_1", "7_2"]
