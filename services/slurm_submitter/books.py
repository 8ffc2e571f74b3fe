"""The submitter's books: its records in `submissions`, what the tracker wrote of their agents, and the events.

A record is written before its event is published: the state is the truth, the event a hint.
"""

from typing import Any

from libs.bus.connection import Bus, Mirror
from libs.events import subjects
from libs.events.messages import (
    JobAgent,
    Submission,
    SubmissionAbandoned,
    SubmissionAccepted,
    SubmissionAdopted,
    SubmissionDecided,
    SubmissionEvent,
    SubmissionForgotten,
    SubmissionIntended,
    SubmissionRefused,
    SubmissionUnclear,
)
from libs.events.rows import Topic


class Books:
    """Read from mirrors of the buckets; written through here only, by the holder of `fence`."""

    def __init__(self, bus: Bus, submissions: Mirror[Submission], agents: Mirror[JobAgent], fence: int) -> None:
        self._bus = bus
        self._bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
        self._agents_bucket = bus.bucket(subjects.JOB_AGENTS_BUCKET)
        self._submissions = submissions
        self._agents = agents
        self.fence = fence

    def submissions(self) -> list[Submission]:
        """Every submission on record, oldest first."""
        return sorted((entry.record for entry in self._submissions.entries.values()), key=lambda one: one.intended_at)

    def agents(self) -> dict[str, JobAgent]:
        """The tracker's records, by agent."""
        return {key: entry.record for key, entry in self._agents.entries.items()}

    async def agents_of(self, submission: Submission) -> list[JobAgent]:
        """The tracker's records of one submission, asked from the bucket itself: before giving one up, be sure."""
        entries = [await self._agents_bucket.read(f"{submission.name}.{index}") for index in range(submission.agents)]
        return [entry.record for entry in entries if entry is not None]

    async def record(self, submission: Submission, *, kind: str = "") -> None:
        """Make a submission's state durable, then say so. `kind` classes a refusal.

        Raises Conflict when another holder of the lease wrote the record meanwhile.
        """
        known = self._submissions.entries.get(submission.name)
        revision = await self._bucket.write(submission.name, submission, known.revision if known else 0)
        self._submissions.note(submission.name, submission, revision)
        topic, event = self._event(submission, kind)
        await self._bus.publish(topic, submission.ce, event, msg_id=f"{submission.name}:{topic.verb}")

    async def drop(self, submission: Submission) -> None:
        """Take the record of a submission that cannot matter any more out of the bucket."""
        entry = self._submissions.entries.pop(submission.name)
        await self._bucket.delete(submission.name, entry.revision)

    async def journal(self, decided: SubmissionDecided) -> None:
        """Write one decision to the journal."""
        await self._bus.publish(subjects.SUBMISSION_DECIDED, decided.ce, decided)

    def _event(self, one: Submission, kind: str) -> tuple[Topic[Any], SubmissionEvent]:
        about: dict[str, Any] = {
            "at": one.changed_at,
            "by": self._bus.by,
            "ce": one.ce,
            "name": one.name,
            "agents": one.agents,
        }
        if one.state == "intended":
            event: SubmissionEvent = SubmissionIntended(
                **about, void_after=one.void_after, replaces=one.replaces, fence=one.fence
            )
            return subjects.SUBMISSION_INTENDED, event
        if one.state == "accepted":
            return subjects.SUBMISSION_ACCEPTED, SubmissionAccepted(**about, job_id=one.job_id)
        if one.state == "adopted":
            return subjects.SUBMISSION_ADOPTED, SubmissionAdopted(**about, job_id=one.job_id)
        if one.state == "refused":
            return subjects.SUBMISSION_REFUSED, SubmissionRefused(**about, kind=kind, text=one.why)
        if one.state == "unclear":
            return subjects.SUBMISSION_UNCLEAR, SubmissionUnclear(**about, why=one.why)
        if one.state == "abandoned":
            return subjects.SUBMISSION_ABANDONED, SubmissionAbandoned(**about, why=one.why)
        return subjects.SUBMISSION_FORGOTTEN, SubmissionForgotten(**about, why=one.why)
