"""How tests are spread over workers."""

from pathlib import Path

from tests.schedule import APART, LONGEST, group, rank
from tests.world.processes import REPOSITORY


def test_what_is_shared_stays_together() -> None:
    """A file is one group, but for its two kinds of Slurm, the timelines' two houses and long files of single tests."""
    assert group("tests/unit/a.py::test_x[real]") == "tests/unit/a.py real"
    assert group("tests/unit/a.py::test_x[model-7]") == group("tests/unit/a.py::test_y[model]")
    assert group("tests/unit/a.py::test_x[realm]") == group("tests/unit/a.py::test_y") == "tests/unit/a.py"
    first, second, third = (
        group(f"tests/e2e/test_timelines.py::test_{name}") for name in ("demand_rises", "central_x", "lock")
    )
    assert first == second != third
    assert group("tests/integration/central/test_x.py::test_a") != group("tests/integration/central/test_x.py::test_b")


def test_the_longest_begin_first() -> None:
    """Files that are named exist, and come before all others."""
    for path in (*LONGEST, *APART):
        assert Path(REPOSITORY / path).exists()
    assert [rank(f"{path}::test_x") for path in LONGEST] == list(range(len(LONGEST)))
    assert rank("tests/unit/a.py::test_x") == len(LONGEST)
