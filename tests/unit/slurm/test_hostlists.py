import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed
from libs.slurm.hostlists import expanded


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("nid004096", ("nid004096",)),
        ("nid[004096-004098,004101]", ("nid004096", "nid004097", "nid004098", "nid004101")),
        ("nid[9-11],login1", ("nid9", "nid10", "nid11", "login1")),
        ("x[1-2]-hsn0", ("x1-hsn0", "x2-hsn0")),
    ],
)
def test_node_lists(text: str, names: tuple[str, ...]) -> None:
    """Ranges keep their leading zeros and their order."""
    assert expanded(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "nid[1-2",
        "nid[2-1]",
        "nid[1-2-3]",
        "nid[-2]",
        "nid[1-]",
        "a,,b",
        "a,",
        "a b",
        "[1-2]",
        "n[1-2]m[3]",
        "n[0-99999]",
        "n[0-9998],m[0-9998]",
    ],
)
def test_other_texts_are_malformed(text: str) -> None:
    """Nothing is guessed, and nobody can make us name a million nodes."""
    with pytest.raises(Malformed):
        expanded(text)


@given(st.text(alphabet="nid0123456789[],-", max_size=40))
def test_any_text_gives_names_or_malformed(text: str) -> None:
    """No other error."""
    with contextlib.suppress(Malformed):
        assert all(expanded(text))
