from hypothesis import assume, given
from hypothesis import strategies as st

from libs.slurm import cut_lists
from libs.slurm.rows import BatchJob
from libs.slurm.states import classify
from tests.unit.slurm.listing import block

MAX_ARRAY_SIZE = 1001


def row(state: str, *indices: int, array_job_id: int = 16) -> BatchJob:
    about = {"array_job_id": array_job_id, "name": "nacre-x", "user": "alicepro", "state": classify(state)}
    return BatchJob(**about, indices=tuple(indices))  # type: ignore[arg-type]


def search_of(
    waiting: set[int], rows: list[BatchJob], running: frozenset[int] = frozenset()
) -> tuple[list[BatchJob], int]:
    """Search as a client would, with a squeue that shows `waiting` and `running`; the rows, and how often it asked."""
    cut = block(waiting)
    search, asked = cut_lists.begun(cut, [cut, *rows]), 0
    while tasks := cut_lists.next_tasks(search, MAX_ARRAY_SIZE):
        asked += 1
        of_them = waiting & set(tasks)
        answer = [block(of_them)] if of_them else []
        answer += [row("RUNNING", index) for index in sorted(running & set(tasks))]
        search = cut_lists.continued(search, tasks, answer)
    return cut_lists.made_whole(search), asked


@given(st.sets(st.integers(0, MAX_ARRAY_SIZE - 1), min_size=30))
def test_every_waiting_task_is_found(waiting: set[int]) -> None:
    """Whatever is missing from the array, the block ends with just the tasks that wait."""
    assume(block(waiting).indices is None)
    rows, _ = search_of(waiting, [])
    assert [one.indices for one in rows] == [tuple(sorted(waiting))]
    assert sum(one.jobs for one in rows) == len(waiting)


def test_a_usual_cut_list_takes_few_questions() -> None:
    """500 tasks of which every eighth was cancelled are found with a handful of questions."""
    waiting = {index for index in range(500) if index % 8}
    assert block(waiting).indices is None
    rows, asked = search_of(waiting, [])
    assert rows[0].jobs == len(waiting)
    assert asked <= 12


def test_a_task_that_started_meanwhile_is_a_row_of_its_own() -> None:
    """It is neither lost nor in the block, and one that had its own row in the listing is not doubled."""
    waiting = {index for index in range(400) if index % 3}
    before = row("RUNNING", 399)
    rows, _ = search_of(waiting - {395, 399}, [before], running=frozenset({395, 399}))
    assert [(one.state.name, one.indices) for one in rows[1:]] == [("RUNNING", (395,))]
    assert set(rows[0].indices or ()) == waiting - {395, 399}


def test_a_block_that_is_gone_stands_for_nothing() -> None:
    """When all of it was cancelled between two questions there is no row, and no plain job in its place."""
    cut = block(set(range(0, 400, 3)))
    search = cut_lists.Search(job=cut, found=(), following=0, elsewhere=frozenset())
    while tasks := cut_lists.next_tasks(search, MAX_ARRAY_SIZE):
        search = cut_lists.continued(search, tasks, [row("PENDING", 5, array_job_id=17)])
    assert cut_lists.made_whole(search) == []
