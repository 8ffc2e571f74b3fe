from hypothesis import given
from hypothesis import strategies as st

from libs.slurm import states
from libs.slurm.states import Ending, Phase


def test_every_row_is_found_by_its_long_name_and_its_code() -> None:
    """Long name and short code give the same state, and only ended states have an ending."""
    for name, code, phase, ending in states.TABLE:
        for word in filter(None, (name, code)):
            state = states.classify(word)
            assert (state.name, state.phase, state.ending, state.text) == (name, phase, ending, word)
        assert (ending is not None) == (phase is Phase.ENDED)


def test_words_are_unique() -> None:
    """No long name or code stands for two states."""
    words = [word for row in states.TABLE for word in row[:2] if word]
    assert len(words) == len(set(words))


def test_base_states_and_flags_of_the_manual_are_all_there() -> None:
    """The twelve base states and the seventeen flags of Slurm's own page are in the table."""
    assert len(states.TABLE) == 12 + 17


def test_cancelled_by_somebody_is_cancelled() -> None:
    """sacct's `CANCELLED by <uid>` is CANCELLED and keeps the user id."""
    state = states.classify("CANCELLED by 1001")
    assert (state.name, state.ending, state.cancelled_by) == ("CANCELLED", Ending.CANCELLED, 1001)
    assert states.classify("CANCELLED by nobody").cancelled_by is None
    assert states.classify("CANCELLED by nobody").phase is Phase.ENDED


@given(st.text())
def test_any_other_word_is_unknown_and_kept(text: str) -> None:
    """A word from a newer Slurm is UNKNOWN with its text, never an error and never counted as something else."""
    state = states.classify(text)
    known = {word for row in states.TABLE for word in row[:2]}
    if text.strip() not in known and not text.strip().startswith("CANCELLED by "):
        assert (state.name, state.phase, state.text) == (states.UNKNOWN, Phase.UNKNOWN, text)
