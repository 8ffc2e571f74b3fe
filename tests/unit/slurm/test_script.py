from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed
from libs.slurm import script

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "lines",
    [
        ["#SBATCH -J nacre-a"],
        ["#SBATCH -Jnacre-a"],
        ["#SBATCH --job-name nacre-a"],
        ["#SBATCH --job-name=nacre-a  # which is its name"],
        ["#SBATCH -J first", "#SBATCH -N 1 -J nacre-a -t 5"],
        ["", "# a comment", "#SBATCH -J nacre-a", "true", "#SBATCH -J too-late"],
        ["#SBATCH -J nacre-a", " #SBATCH -J indented", "#SBATCH -t 5 -J"],
    ],
)
def test_the_name_as_sbatch_reads_it(lines: list[str]) -> None:
    """Short and long, the last of several, before the first command, in column 0."""
    assert script.facts("\n".join(["#!/bin/bash", *lines])).name == "nacre-a"


@pytest.mark.parametrize(
    "text", ["", "true", "#SBATCH", "#SBATCH -J", "#SBATCH -J 'a b'", "#SBATCH -J 'open", "#SBATCH -J $(x)"]
)
def test_a_script_without_a_plain_name_is_malformed(text: str) -> None:
    """No name, or one that a shell or a list of names could read otherwise."""
    with pytest.raises(Malformed):
        script.facts(f"#!/bin/bash\n{text}\n")


def test_void_after_in_whole_seconds() -> None:
    """The instant of the script's own comment; within its second the script is still good, as it judges itself."""
    facts = script.facts(f"#!/bin/bash\n#SBATCH -J a\n# nacre: void_after={int(NOON.timestamp())} run_s=5\n")
    assert facts.void_after == NOON
    assert not facts.is_void(NOON + timedelta(seconds=0.9))
    assert facts.is_void(NOON + timedelta(seconds=1))
    assert not script.facts("#!/bin/bash\n#SBATCH -J a\n").is_void(NOON + timedelta(days=9999))


@given(st.text(max_size=300))
def test_any_text_has_a_plain_name_or_none(text: str) -> None:
    """Whatever the script, a name that comes out is plain."""
    try:
        name = script.facts(f"#SBATCH {text}").name
    except Malformed:
        return
    assert name.isascii() and not set(name) & set(" ,;'\"$`\\/*?&|<>()")
