"""What happened to one job agent, from demand to verdict. Pure: messages in, steps out.

All messages of one decision and of its agents carry one trace id; what names the submission or the agent belongs to the
timeline, too, should the trace have been lost.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from libs.events import messages, subjects
from libs.events.rows import PREFIX, Topic

INTENDED = subjects.SUBMISSION_INTENDED.name
ORIGINS = (subjects.DEMAND_OBSERVED.name, subjects.SUBMISSION_DECIDED.name)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    at: datetime
    service: str
    event: str
    text: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """The steps, oldest first; `trace` is the trace id that an OpenTelemetry collector shows."""

    agent: str
    trace: str
    steps: list[Step]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the bus: subject, trace id, JSON body."""

    subject: str
    body: msgspec.Raw
    trace: str = ""


def timeline(recorded: Iterable[Recorded], agent: str) -> Timeline:
    """The timeline of `<submission>.<array index>`; without steps when nothing names it."""
    submission = agent.rpartition(".")[0]
    read = [(one, event, topic) for one in recorded if (found := _decoded(one)) for topic, event in [found]]
    traces = [one.trace for one, event, _ in read if getattr(event, "name", "") == submission and one.trace]
    trace = traces[0] if traces else ""
    steps = [
        Step(at=event.at, service=event.by.partition("/")[0], event=topic.name, text=text)
        for one, event, topic in read
        if (text := _told(event, submission, agent, same_trace=bool(trace) and one.trace == trace))
    ]
    return Timeline(agent=agent, trace=trace, steps=_own(sorted(steps, key=lambda step: step.at)))


def _own(steps: list[Step]) -> list[Step]:
    """Without the demands and decisions of other submissions: one demand can lead to several."""
    intended = next((number for number, step in enumerate(steps) if step.event == INTENDED), 0)
    before = {step.event: number for number, step in enumerate(steps[:intended])}
    return [step for number, step in enumerate(steps) if step.event not in ORIGINS or before.get(step.event) == number]


def _decoded(one: Recorded) -> tuple[Topic[Any], Any] | None:
    parts = one.subject.removeprefix(f"{PREFIX}.").split(".")
    for topic in subjects.TOPICS:
        if topic.message is not None and [topic.noun, topic.verb] == parts[1:3]:
            try:
                return topic, msgspec.json.decode(one.body, type=topic.message)
            except msgspec.MsgspecError:
                return None
    return None


def _told(event: Any, submission: str, agent: str, *, same_trace: bool) -> str:
    """What the message says of the agent; empty when it is another's."""
    if isinstance(event, messages.DemandObserved):
        return f"{event.waiting} grid jobs wait" if same_trace else ""
    if isinstance(event, messages.SubmissionDecided):
        return event.why if same_trace and event.submit else ""
    if isinstance(event, messages.SubmissionEvent):
        return _told_of_submission(event) if event.name == submission else ""
    if isinstance(event, messages.JobAgentChanged) and event.record.agent == agent:
        record = event.record
        words = [record.slurm_state, record.reason, record.nodes, f"job {record.job_id}" if record.job_id else ""]
        known = ", ".join(word for word in words if word and word not in {"None", "(null)"})
        return f"{event.was or 'new'} -> {record.state}: {record.verdict or known}"
    return ""


def _told_of_submission(event: messages.SubmissionEvent) -> str:
    if isinstance(event, messages.SubmissionIntended):
        replaced = f", replaces {event.replaces}" if event.replaces else ""
        return f"{event.agents} agents intended, void after {event.void_after:%H:%M:%S}{replaced}"
    if isinstance(event, messages.SubmissionAccepted | messages.SubmissionAdopted):
        return f"Slurm job {event.job_id}"
    if isinstance(event, messages.SubmissionRefused):
        return f"{event.kind}: {event.text}"
    return str(getattr(event, "why", ""))
