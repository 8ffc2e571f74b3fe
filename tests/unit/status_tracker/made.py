"""Batch jobs, sightings and records as the tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from libs.events.messages import JobAgent, Submission
from libs.slurm.rows import BatchJob
from libs.slurm.states import classify
from services.status_tracker.rules import counting
from services.status_tracker.rules.counting import Sighting

AT = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
NAME = "nacre-cpu-20261123t030000-a1b2c3"
CES = frozenset({"cpu", "gpu-long"})


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def job(state: str = "PENDING", **changes: Any) -> BatchJob:
    about: dict[str, Any] = {
        "array_job_id": 7,
        "indices": (0,),
        "name": NAME,
        "user": "alicepro",
        "state": classify(state),
        "qos": "regular",
        "submitted_at": AT,
    }
    return BatchJob(**(about | changes))


def sighting(state: str = "PENDING", **changes: Any) -> Sighting:
    return counting.sightings(job(state, **changes), CES)[0]


def record(state: str = "queued", **changes: Any) -> JobAgent:
    about: dict[str, Any] = {
        "agent": f"{NAME}.0",
        "submission": NAME,
        "index": 0,
        "ce": "cpu",
        "machine": "perlmutter",
        "state": state,
        "first_listed_at": AT,
        "job_id": "7_0",
        "slurm_state": {"queued": "PENDING", "running": "RUNNING", "ended": "COMPLETED"}.get(state, "RUNNING"),
        "submit_at": AT,
    }
    return JobAgent(**(about | changes))


def submission(state: Any = "accepted", **changes: Any) -> Submission:
    about: dict[str, Any] = {
        "name": NAME,
        "ce": "cpu",
        "machine": "perlmutter",
        "agents": 2,
        "state": state,
        "intended_at": AT,
        "void_after": after(600),
        "changed_at": AT,
        "fence": 1,
        "qos": "regular",
        "job_id": "7" if state in {"accepted", "adopted"} else "",
    }
    return Submission(**(about | changes))
