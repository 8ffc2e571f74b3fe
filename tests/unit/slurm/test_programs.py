from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed, NacreError, Overloaded, Refused
from libs.slurm import listings, programs
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from libs.slurm.states import Phase

# Printed by a real Slurm 22.05.8.
SQUEUE = """\
1|4,6-49,51,199:2|1|PENDING|alicepro|2026-11-25T10:04:21|2026-11-25T11:09:00|2026-11-25T11:14:00|regular|m0000|1||Resources|nacre-a|nacre:name=x,replaces=-
1|2|4|RUNNING|alicepro|2026-11-25T10:04:21|2026-11-25T10:04:23|2026-11-25T10:09:23|regular|m0000|1|nid004097|None|nacre-a|a|b
24|0-198:2%7|24|PENDING|alicepro|2026-11-25T10:04:21|N/A|N/A|regular|m0000|1||JobHeldUser|holes|(null)
"""
SACCT = """\
1_0|2|TIMEOUT|0:0|alicepro|2026-11-25T10:04:21|2026-11-25T10:04:21|2026-11-25T10:04:21|2026-11-25T10:09:31|310|00:00:00|regular|m0000|1|nid004096|None|nacre-a|nacre:name=x,replaces=-
1_1|3|CANCELLED by 0|0:15|alicepro|2026-11-25T10:04:21|2026-11-25T10:04:21|2026-11-25T10:04:21|2026-11-25T10:04:23|2|00:00:00|regular|m0000|1|nid004097|None|nacre-a|
"""  # noqa: E501
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_the_command_lines() -> None:
    """Everything of one user, in compact columns, by name or by id; instants in UTC whatever zone they came in."""
    assert programs.squeue("alicepro")[:4] == ["squeue", "-a", "-h", "--user=alicepro"]
    assert "--name=a,b" in programs.squeue("alicepro", ["a", "b"])
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    assert programs.sacct("alicepro", east)[4:6] == ["--user=alicepro", "--starttime=2026-11-25T12:00:00"]
    assert "--jobs=1,2_3" in programs.sacct("alicepro", NOON, job_ids=["1", "2_3"])
    assert "--name=a" in programs.sacct("alicepro", NOON, names=["a"])
    assert programs.sbatch("a") == ["sbatch", "--parsable", "--job-name=a"]
    assert programs.scancel(["16", "16_3"]) == ["scancel", "16", "16_3"]


@given(st.text(max_size=40))
def test_no_word_of_outside_can_be_more_than_a_word(word: str) -> None:
    """What reaches a command line holds nothing that a shell, or the program, could take for something else."""
    makers: list[Callable[[], list[str]]] = [
        lambda: programs.squeue(word),
        lambda: programs.squeue("u", [word]),
        lambda: programs.sacct("u", NOON, job_ids=[word]),
        lambda: programs.sbatch(word),
        lambda: programs.scancel([word]),
    ]
    for make in makers:
        try:
            made = make()
        except Malformed:
            continue
        assert word and not set(word) & set(" ,;'\"$`\\/*?&|<>()[]{}\n\0")
        assert not word.startswith("-")
        assert any(word in argument for argument in made)
    assert (programs.refused_id(word) is None) == (word.replace("_", "", 1).isdigit() and word.isascii() and _id(word))


def _id(word: str) -> bool:
    head, _, tail = word.partition("_")
    return bool(head) and len(head) <= 10 and len(tail) <= 9 and (bool(tail) or "_" not in word)


def test_squeue_in_compact_columns() -> None:
    """Lists and steps in full, free texts with bars, expected starts of what waits left out."""
    parsed = programs.parse("squeue", SQUEUE.replace("199:2", "199"))
    assert parsed.faults == ()
    waiting, running, held = parsed.jobs
    assert (waiting.jobs, waiting.started_at, waiting.submitted_at) == (
        47,
        None,
        NOON.replace(hour=10, minute=4, second=21),
    )
    assert (running.indices, running.comment, running.state.phase) == ((2,), "a|b", Phase.RUNNING)
    assert held.indices == tuple(range(0, 199, 2))
    assert "neither index nor range" in programs.parse("squeue", SQUEUE).faults[0]


def test_sacct_in_compact_columns() -> None:
    """Ends, exit codes and who cancelled."""
    parsed = programs.parse("sacct", SACCT)
    assert parsed.faults == ()
    assert [job.state.name for job in parsed.jobs] == ["TIMEOUT", "CANCELLED"]
    assert (parsed.jobs[1].signal, parsed.jobs[1].state.cancelled_by) == (15, 0)
    with pytest.raises(Malformed):
        programs.parse("sinfo", "")


@given(st.text(max_size=400))
def test_any_text_is_rows_or_faults(text: str) -> None:
    """Every line is a row or a fault; none is passed over, none raises."""
    for program in ("squeue", "sacct"):
        parsed = programs.parse(program, text)
        assert len(parsed.jobs) + len(parsed.faults) >= len(text.splitlines())


def test_a_failed_read_by_its_words() -> None:
    """Waiting helps or does not; an error in words counts also with exit code 0."""
    programs.raise_for_read("squeue", 0, "")
    programs.raise_for_read("squeue", 0, "bash: warning: something of the profile's")
    for code, error, kind in (
        (1, "", Overloaded),
        (1, "slurm_load_jobs error: Unable to contact slurm controller", Overloaded),
        (0, "squeue: error: Invalid user: alicepro", Overloaded),
        (1, "sacct: error: Access/permission denied", Refused),
    ):
        with pytest.raises(kind) as caught:
            programs.raise_for_read("squeue", code, error)
        assert isinstance(caught.value, NacreError)


def test_what_sbatch_and_scancel_said() -> None:
    """An id, also with a cluster's name or after a notice; anything else of a success is unclear."""
    assert programs.submitted(0, "16\n", "sbatch: a notice") == Accepted(job_id="16")
    assert programs.submitted(0, "notice\n16;perlmutter\n", "") == Accepted(job_id="16")
    for output in ("", "sixteen", "16 jobs", "99999999999"):
        assert isinstance(programs.submitted(0, output, ""), Unclear)
    assert isinstance(programs.submitted(137, "", ""), Unclear)
    assert programs.cancelled(["1", "2"], 0, "", "") == {"1": Accepted(job_id="1"), "2": Accepted(job_id="2")}
    refused = programs.cancelled(["1"], 1, "", "scancel: error: Invalid job id specified")["1"]
    assert isinstance(refused, Refusal) and refused.kind is RefusalKind.REQUEST


def test_many_are_asked_for_in_parts() -> None:
    """150 at once; nothing asked for is one empty part: everything."""
    assert programs.in_parts([]) == [[]]
    assert [len(part) for part in programs.in_parts(str(number) for number in range(400))] == [150, 150, 100]


def test_listings_are_joined_and_named_short() -> None:
    """As old as the oldest, complete when all are, other users' rows left out, three faults named."""
    parsed = programs.parse("squeue", SQUEUE.replace("199:2", "199"))
    whole = listings.of(parsed, user="alicepro", listed_at=NOON)
    assert (whole.complete, whole.why_not, len(whole.rows)) == (True, "", 3)
    assert listings.of(parsed, user="somebody", listed_at=NOON).rows == ()
    bad = listings.of(
        programs.parse("squeue", "a\nb\nc\n"), user="alicepro", listed_at=NOON - timedelta(1), faults=["x"]
    )
    assert not bad.complete
    assert bad.why_not.startswith("x; ") and bad.why_not.endswith("and 1 more")
    both = listings.joined([whole, bad])
    assert (both.complete, both.listed_at, both.why_not, len(both.rows)) == (False, bad.listed_at, bad.why_not, 3)
