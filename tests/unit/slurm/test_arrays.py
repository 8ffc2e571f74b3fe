import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed
from libs.slurm import arrays
from libs.slurm.arrays import CUT, TaskList, named_before_cut, parse_tasks


@pytest.mark.parametrize(
    ("text", "indices", "throttle"),
    [
        ("7", (7,), None),
        ("0-3", (0, 1, 2, 3), None),
        ("[0-3]", (0, 1, 2, 3), None),
        ("1-9:2", (1, 3, 5, 7, 9), None),
        ("1-199:2%7", tuple(range(1, 200, 2)), 7),
        ("[2-4,6-9%2]", (2, 3, 4, 6, 7, 8, 9), 2),
        ("5,3,5,1-3", (1, 2, 3, 5), None),
    ],
)
def test_each_form_of_a_list(text: str, indices: tuple[int, ...], throttle: int | None) -> None:
    """Single, range, step, throttle, brackets and mixtures name their tasks in order, each once."""
    assert parse_tasks(text) == TaskList(indices=indices, throttle=throttle)


@pytest.mark.parametrize("text", ["1,3-5,7-13,8...", "[0,2-3,108-109,1...]", "..."])
def test_a_cut_list_is_cut(text: str) -> None:
    """A list that Slurm cut is CUT: it has no number of tasks that anyone could count."""
    assert parse_tasks(text) is CUT


@pytest.mark.parametrize(
    "text",
    ["", "[", "[0-3", "a", "1-", "-1", "3-1", "1-5:0", "1,,2", "1%", "1%x", "1%²", "0-9999999", "1 2", "٣"],
)
def test_anything_else_is_malformed(text: str) -> None:
    """What follows no form of Slurm's, or names an absurd number of tasks, is Malformed."""
    with pytest.raises(Malformed):
        parse_tasks(text)


def test_many_ranges_are_bounded_together() -> None:
    """The bound holds for the whole list, not for each of its ranges."""
    half = arrays.MOST_TASKS // 2
    with pytest.raises(Malformed, match="more than"):
        parse_tasks(f"0-{half},{half + 1}-{2 * half + 1}")


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=200), st.one_of(st.none(), st.integers(1, 99)))
def test_written_as_slurm_writes_it_and_read_back(indices: set[int], throttle: int | None) -> None:
    """Any set of tasks, written as ranges, reads back as itself."""
    pieces: list[str] = []
    ordered = sorted(indices)
    first = last = ordered[0]
    for index in [*ordered[1:], -1]:
        if index == last + 1:
            last = index
            continue
        pieces.append(str(first) if first == last else f"{first}-{last}")
        first = last = index
    text = ",".join(pieces) + (f"%{throttle}" if throttle else "")
    assert parse_tasks(text) == TaskList(indices=tuple(ordered), throttle=throttle)


@given(st.text(alphabet="0123456789-,:%[].x ", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is a list, CUT, or Malformed."""
    try:
        tasks = parse_tasks(text)
    except Malformed:
        return
    assert tasks is CUT or tasks.indices == tuple(sorted(set(tasks.indices)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1,3-5,7-13,8...", (1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13)),
        ("1,3-5,7-1...", (1, 3, 4, 5)),
        ("1,3,...", (1, 3)),
        ("[2,4...%7]", (2,)),
        ("1-19...", ()),
        ("...", ()),
    ],
)
def test_what_a_cut_list_surely_names(text: str, named: tuple[int, ...]) -> None:
    """All before the last comma; what follows may be half a number."""
    assert named_before_cut(text) == named
