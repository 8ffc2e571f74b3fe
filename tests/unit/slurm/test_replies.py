import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed, NacreError, Overloaded, Refused
from libs.slurm import replies
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear, read_failure

PACIFIC = ZoneInfo("America/Los_Angeles")


def _body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_rows_of_a_good_answer() -> None:
    """Status OK with a list gives the list, also an empty one."""
    assert replies.queue_rows(_body(status="OK", output=[{"a": "b"}], error=None), "squeue") == [{"a": "b"}]
    assert replies.queue_rows(_body(status="ok", output=[]), "squeue") == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (_body(status="ERROR", output=[], error="Unable to contact slurm controller"), Overloaded),
        (_body(status="ERROR", output=[], error=None), Overloaded),
        (_body(status="ERROR", error="Permission denied"), Refused),
        (_body(status="OK", output=None), Malformed),
        (_body(status="OK", output={"a": 1}), Malformed),
        (_body(output=[]), Malformed),
        (b"<html>", Malformed),
        (b'{"status": "OK", "output": [{"a": "b"}', Malformed),
        (b"\xff\xfe", Malformed),
    ],
)
def test_a_failed_listing_is_never_empty(body: bytes, error: type[NacreError]) -> None:
    """ERROR with HTTP 200, a missing list, a cut or foreign body: an error each time, never no rows."""
    with pytest.raises(error):
        replies.queue_rows(body, "squeue")


def test_the_task_of_a_post() -> None:
    """A task id is passed on; an ERROR is read by its text; an OK without an id is unclear."""
    assert replies.posted_task(_body(status="OK", task_id="42", error=None), "POST") == "42"
    refused = replies.posted_task(_body(status="ERROR", task_id="", error="Invalid qos specification"), "POST")
    assert isinstance(refused, Refusal) and refused.kind is RefusalKind.QOS
    assert isinstance(replies.posted_task(_body(status="ERROR", task_id=None), "POST"), Unclear)
    for task_id in (None, "", "../x", "é"):
        assert isinstance(replies.posted_task(_body(status="OK", task_id=task_id), "POST"), Unclear)
    with pytest.raises(Malformed):
        replies.posted_task(b"[]", "POST")


def _task(status: str, result: object) -> bytes:
    return _body(id="1", status=status, result=result)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_task("new", None), None),
        (_task("running", None), None),
        (_task("completed", '{"status": "ok", "jobid": "123", "error": null}'), Accepted(job_id="123")),
        (_task("completed", '{"status": "ok", "jobid": 123}'), Accepted(job_id="123")),
    ],
)
def test_the_end_of_a_task(body: bytes, expected: Outcome | None) -> None:
    """A task that runs is not over; one that completed with a number was accepted."""
    assert replies.task_outcome(body, "task") == expected


@pytest.mark.parametrize(
    "body",
    [
        _task("completed", None),
        _task("completed", "not json"),
        _task("completed", '{"status": "ok", "jobid": null}'),
        _task("completed", '{"status": "ok", "jobid": "12a"}'),
        _task("completed", '{"status": "ok", "jobid": "99999999999"}'),
        _task("completed", '{"status": "error", "error": null}'),
        _task("completed", '{"status": "error", "error": "Socket timed out on send/recv operation"}'),
        _task("failed", None),
        _task("cancelled", None),
        _task("failed", {"a": 1}),
        _task("failed", "something nobody has seen"),
    ],
)
def test_a_task_that_does_not_say_is_unclear(body: bytes) -> None:
    """No id, no number, no text, words nobody knows, or a timeout of Slurm's own: the job may exist."""
    assert isinstance(replies.task_outcome(body, "task"), Unclear)


def test_a_failed_task_is_refused_by_its_text() -> None:
    """The text of a failure, bare or inside the result, says which refusal it is and is kept."""
    text = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates ..."
    bare = replies.task_outcome(_task("failed", text), "task")
    inside = replies.task_outcome(_task("failed", json.dumps({"status": "error", "error": text})), "task")
    completed = replies.task_outcome(_task("completed", json.dumps({"status": "error", "error": text})), "task")
    assert bare == inside == completed == Refusal(kind=RefusalKind.SUBMIT_LIMIT, text=text)


def test_a_cancel_needs_no_job_id_back() -> None:
    """A cancel that completed is accepted for the id that was asked for."""
    body = _task("completed", '{"status": "ok", "output": ""}')
    assert replies.task_outcome(body, "task", "16_3") == Accepted(job_id="16_3")
    with pytest.raises(Malformed):
        replies.task_outcome(b"null", "task")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Batch job submission failed: Invalid account or account/partition combination specified", "account"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "qos"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "request"),
        ("sbatch: error: Batch job submission failed: Invalid license specification", "request"),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", "request"),
        ("sbatch: error: invalid partition specified: nope", "request"),
        ("sbatch: error: Invalid --time specification", "script"),
        ("sbatch: unrecognized option '--foo'", "script"),
        ("sbatch: error: Batch script is empty!", "script"),
        ("sbatch: error: Batch job submission failed: Something new", "other"),
    ],
)  # fmt: skip
def test_texts_of_a_real_slurm(text: str, kind: str) -> None:
    """What a real sbatch printed falls into its class."""
    assert read_failure(text) == Refusal(kind=RefusalKind(kind), text=text)


@given(st.text(max_size=5000))
def test_any_failure_text_is_bounded(text: str) -> None:
    """No text is an acceptance, and none is kept longer than the bound."""
    read = read_failure(text)
    assert len(read.text if isinstance(read, Refusal) else read.why) < 10 * 2000


def test_status_and_outages() -> None:
    """Status and planned outages; lists of lists as the API also gives them; local instants are the machine's."""
    status = replies.machine_status(_body(name="perlmutter", status="Active", notes=None, description=None), "status")
    assert (status.status, status.notes, status.description) == ("active", (), "")
    outage = {"name": "perlmutter", "start_at": "2026-12-01T06:00:00-08:00", "end_at": "2026-12-01T22:00:00"}
    (flat,) = replies.planned_outages(json.dumps([outage]).encode(), "outages", PACIFIC)
    assert replies.planned_outages(json.dumps([[outage]]).encode(), "outages", PACIFIC) == (flat,)
    assert flat.start_at == datetime(2026, 12, 1, 14, tzinfo=UTC)
    assert flat.end_at == datetime(2026, 12, 2, 6, tzinfo=UTC)
    with pytest.raises(Malformed, match="not an instant"):
        replies.planned_outages(json.dumps([outage | {"end_at": "soon"}]).encode(), "outages", PACIFIC)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(max_size=5), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["status", "output", "task_id", "result", "error", "name"]), x), max_leaves=6).map(lambda x: json.dumps(x).encode()))  # fmt: skip # noqa: E501
def test_no_body_breaks_a_reader(body: bytes) -> None:
    """Any bytes are read or raise an error of the tree."""
    for read in (replies.queue_rows, replies.posted_task, replies.task_outcome, replies.machine_status):
        try:
            read(body, "x")
        except NacreError:
            continue
