import base64
import gzip
import shlex
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed
from libs.slurm import programs, remote_line, script
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from libs.slurm.remote_line import RemoteSaid

SCRIPT = "#!/bin/bash\n#SBATCH -J nacre-a\n# nacre: void_after=1795602094\necho 'it'\"'\"'s' \"$HOME\" `x` !! \\\n"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def answer(output: str, *, step: str = "squeue", codes: str = "0 0 0 0", error: str = "") -> str:
    """What the other side prints."""
    data = base64.b64encode(gzip.compress(output.encode(), mtime=0)).decode()
    return f"nacre-begin\n{data}\n nacre-codes {step} {codes}\nnacre-error {_b64(error)}\nnacre-end\n"


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "line",
    [
        remote_line.reading(programs.squeue("alicepro")),
        remote_line.cancelling(["16", "16_3"]),
        remote_line.submitting(SCRIPT, script.facts(SCRIPT)),
    ],
    ids=["squeue", "scancel", "sbatch"],
)
def test_a_line_is_the_same_to_every_shell_and_to_none(line: str) -> None:
    """One line, bash and its script as one quoted word, nothing in it that any shell reads inside single quotes."""
    words = shlex.split(line)
    assert words[:2] == ["bash", "-lc"] and len(words) == 3
    assert "\n" not in line and "!" not in line and words[2].count("'") == 0
    assert len(line) < remote_line.LINE_LIMIT_BYTES


def inside(line: str) -> str:
    """The script that a line runs over there."""
    return base64.b64decode(shlex.split(line)[2].split()[2]).decode()


def test_the_submission_looks_before_it_leaps() -> None:
    """Time, squeue, sacct, the whole script, time again, then sbatch; the script travels packed."""
    text = inside(remote_line.submitting(SCRIPT, script.facts(SCRIPT)))
    steps = [text.index(step) for step in ("\nvoid\n", "look squeue", "look sacct", "gzip -d)", "\nrun sbatch")]
    assert steps == sorted(steps)
    assert text.count("\nvoid\n") == 2 and "-gt 1795602094" in text
    packed = text.partition("pipefail; echo ")[2].partition(" |")[0]
    assert gzip.decompress(base64.b64decode(packed)).decode() == SCRIPT
    undated = SCRIPT.replace("# nacre: void_after=1795602094\n", "")
    assert "-gt 99999999999" in inside(remote_line.submitting(undated, script.facts(undated)))


def test_the_answer_between_its_marks() -> None:
    """A profile's words before and after do not matter; output and error come whole."""
    framed = answer("1|2\n", error="é")
    said = remote_line.read_answer(f"Welcome!\n{framed}bye\n", "squeue")
    assert said == RemoteSaid(step="squeue", exit_code=0, output="1|2\n", error="é")
    assert remote_line.read_answer(answer("", codes="1 0 0 0"), "squeue").exit_code == 1
    assert remote_line.read_answer(answer("x", codes="127"), "squeue").exit_code == 127


@given(st.text(max_size=200), st.data())
def test_a_cut_answer_is_never_believed(output: str, data: st.DataObject) -> None:
    """Cut anywhere before its last mark, an answer is malformed."""
    whole = answer(output).rstrip()
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    with pytest.raises(Malformed):
        remote_line.read_answer(whole[:cut], "squeue")


@given(st.text(min_size=1, max_size=50), st.data())
def test_a_damaged_answer_is_never_believed(output: str, data: st.DataObject) -> None:
    """With a stretch of its data missing, an answer is malformed: the check sum says so."""
    packed = base64.b64encode(gzip.compress(output.encode(), mtime=0)).decode()
    start = data.draw(st.integers(min_value=0, max_value=len(packed) - 4))
    with pytest.raises(Malformed):
        remote_line.read_answer(answer(output).replace(packed, packed[:start] + packed[start + 4 :]), "squeue")


@given(st.text(max_size=400))
def test_any_text_is_an_answer_or_malformed(text: str) -> None:
    """Nothing else is raised, whatever is printed."""
    with pytest.raises(Malformed):
        remote_line.read_answer(text, "squeue")


def test_a_lost_or_huge_answer_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that broke, and one that unpacks to more than the bound."""
    with pytest.raises(Malformed, match="larger than"):
        remote_line.read_answer(answer("x", codes="0 141 141 0"), "squeue")
    monkeypatch.setattr(remote_line, "OUTPUT_LIMIT_BYTES", 1000)
    assert remote_line.read_answer(answer("x" * 1000), "squeue").output == "x" * 1000
    with pytest.raises(Malformed, match="damaged"):
        remote_line.read_answer(answer("x" * 1001), "squeue")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (RemoteSaid(step="void", exit_code=0, output="1795602095", error=""), RefusalKind.VOID),
        (RemoteSaid(step="squeue", exit_code=1, output="", error="Unable to contact"), RefusalKind.BUSY),
        (RemoteSaid(step="sacct", exit_code=1, output="", error="Connection refused"), RefusalKind.BUSY),
        (RemoteSaid(step="script", exit_code=1, output="", error="not whole"), RefusalKind.BUSY),
        (RemoteSaid(step="listed", exit_code=0, output="squeue: warning", error=""), RefusalKind.BUSY),
        (RemoteSaid(step="sbatch", exit_code=1, output="", error="Invalid qos specification"), RefusalKind.QOS),
    ],
)
def test_what_ended_before_sbatch_had_no_effect(said: RemoteSaid, kind: RefusalKind) -> None:
    """Void, a look that failed, a damaged script, an answer of the look that is no id: refused, nothing done."""
    outcome = remote_line.submission(said)
    assert isinstance(outcome, Refusal) and outcome.kind is kind


def test_a_name_that_was_found() -> None:
    """One id, in whatever form, is the submission; two are a double, which stays open."""
    for output in ("16", "16_0\n16_1\n", "16_[2-9%7]\n16_1", "16_[0,2-3,...]"):
        found = RemoteSaid(step="listed", exit_code=0, output=output, error="")
        assert remote_line.submission(found) == Accepted(job_id="16")
    double = RemoteSaid(step="listed", exit_code=0, output="16\n17_1", error="")
    assert isinstance(remote_line.submission(double), Unclear)
    sbatch = RemoteSaid(step="sbatch", exit_code=0, output="16\n", error="")
    assert remote_line.submission(sbatch) == Accepted(job_id="16")
