"""The timeline of one job agent."""

from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from libs.events import messages, subjects
from libs.events.messages import DecisionInputs
from libs.events.rows import Topic
from services.operator_console.cli.main import nacre
from services.operator_console.timeline import Recorded, timeline
from tests.unit.slurm_submitter.sites import NOW, SECOND, agent, demand

NAME = "nacre-cpu-20261123t120000-abc"
INPUTS = DecisionInputs(
    waiting=1, max_jobs=1, max_queued=1, queued=0, running=0, unaccounted=0, unlisted=0, unlisted_all_ces=0, starting=0,
    user_jobs_in_qos=0, demand_age_s=1.0, listing_age_s=1.0,
)  # fmt: skip


def recorded(topic: Topic[Any], message: messages.Event, trace: str = "t1") -> Recorded:
    return Recorded(subject=topic.subject("cpu"), body=msgspec.Raw(msgspec.json.encode(message)), trace=trace)


def about(seconds: float, message: type[Any], **fields: Any) -> Any:
    return message(at=NOW + seconds * SECOND, by="slurm_submitter/1", ce="cpu", **fields)


def decided(seconds: float, submit: int, why: str) -> Recorded:
    message = about(seconds, messages.SubmissionDecided, submit=submit, bound="demand", why=why, inputs=INPUTS)
    return recorded(subjects.SUBMISSION_DECIDED, message)


def changed(seconds: float, name: str, index: int, **fields: Any) -> Recorded:
    message = messages.JobAgentChanged(
        at=NOW + seconds * SECOND, by="status_tracker/1", was=None, record=agent(name, index, **fields)
    )
    return recorded(subjects.JOB_AGENT_CHANGED, message, trace="t2")


INTENT = about(2.1, messages.SubmissionIntended, name=NAME, agents=2, void_after=NOW, replaces="x")
OTHERS = about(3, messages.SubmissionAccepted, name="nacre-cpu-2", agents=2, job_id="17")
STORY = [
    recorded(subjects.DEMAND_OBSERVED, demand(7, at=NOW), trace="other"),
    recorded(subjects.DEMAND_OBSERVED, demand(2, at=NOW + SECOND)),
    decided(1.5, 0, "0 submitted, bound by demand"),
    decided(2, 2, "2 submitted"),
    recorded(
        subjects.SUBMISSION_INTENDED, INTENT
    ),
    recorded(subjects.SUBMISSION_ACCEPTED, about(3, messages.SubmissionAccepted, name=NAME, agents=2, job_id="16")),
    recorded(subjects.SUBMISSION_ACCEPTED, OTHERS),
    changed(4, NAME, 1, slurm_state="PENDING", reason="None"),
    changed(4, NAME, 0, slurm_state="PENDING"),
    decided(5, 1, "1 submitted of the same demand"),
    changed(9, NAME, 1, state="ended", verdict="completed"),
    Recorded(subject="nacre.v1.cpu.demand.observed", body=msgspec.Raw(b"{}")),
    Recorded(subject="nacre.v1.cpu.of.tomorrow", body=msgspec.Raw(b"{}")),
]  # fmt: skip


def test_from_demand_to_verdict() -> None:
    """Only what belongs to the agent, in order: its demand, its decision, its submission, its changes."""
    found = timeline(STORY, f"{NAME}.1")
    assert found.trace == "t1"
    assert [(step.service, step.event, step.text) for step in found.steps] == [
        ("queue_poller", "demand.observed", "2 grid jobs wait"),
        ("slurm_submitter", "submission.decided", "2 submitted"),
        ("slurm_submitter", "submission.intended", "2 agents intended, void after 12:00:00, replaces x"),
        ("slurm_submitter", "submission.accepted", "Slurm job 16"),
        ("status_tracker", "job_agent.changed", "new -> queued: PENDING, job 16_1"),
        ("status_tracker", "job_agent.changed", "new -> ended: completed"),
    ]


REFUSED = about(3, messages.SubmissionRefused, name=NAME, agents=1, kind="qos", text="no")
ENDINGS: list[tuple[Topic[Any], Any, str]] = [
    (subjects.SUBMISSION_REFUSED, REFUSED, "qos: no"),
    (subjects.SUBMISSION_UNCLEAR, about(3, messages.SubmissionUnclear, name=NAME, agents=1, why="504"), "504"),
    (subjects.SUBMISSION_ADOPTED, about(3, messages.SubmissionAdopted, name=NAME, agents=1, job_id="9"), "Slurm job 9"),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "message", "text"), ENDINGS, ids=[case[0].verb for case in ENDINGS])
def test_what_became_of_the_submission(topic: Topic[Any], message: Any, text: str) -> None:
    """Refusals, lost answers and adoptions are told in their own words, also without a trace."""
    found = timeline([recorded(topic, message, trace="")], f"{NAME}.0")
    assert (found.trace, [step.text for step in found.steps]) == ("", [text])


def test_command_on_a_journal(tmp_path: Any) -> None:
    """`nacre trace --journal` prints a table or JSON; an unknown agent and a broken journal are said."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(one) for one in STORY))
    run = CliRunner().invoke
    assert "Slurm job 16" in run(nacre, ["trace", f"{NAME}.1", "--journal", str(path)], env={"COLUMNS": "200"}).output
    as_json = run(nacre, ["trace", f"{NAME}.1", "--journal", str(path), "--json"]).output
    assert len(msgspec.json.decode(as_json)["steps"]) == 6
    assert "nothing names" in str(run(nacre, ["trace", "nacre-x.0", "--journal", str(path)]).exception)
    path.write_bytes(b"{")
    assert "cannot be read" in str(run(nacre, ["trace", "nacre-x.0", "--journal", str(path)]).exception)
