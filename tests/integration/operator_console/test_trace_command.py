"""`nacre trace` against a real nats-server."""

import os
import subprocess
import sys
from datetime import timedelta

import msgspec
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import JobAgentChanged, SubmissionAccepted
from libs.runtime import clock
from tests.nats_server import NatsServer
from tests.unit.slurm_submitter.sites import agent


def nacre(server: NatsServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.operator_console.cli", "trace", *arguments]
    environment = os.environ | {"NACRE_NATS_URL": server.url, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


async def test_from_the_bus(bus: Bus, nats_server: NatsServer) -> None:
    """The logs since the submission's own instant are read; the trace id is the one that messages carried."""
    now = clock.now()
    name = f"nacre-cpu-{now:%Y%m%dt%H%M%S}-abc"
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("decide") as span:
        accepted = SubmissionAccepted(at=now, by="slurm_submitter/1", ce="cpu", name=name, agents=1, job_id="16")
        await bus.publish(subjects.SUBMISSION_ACCEPTED, "cpu", accepted)
    record = msgspec.structs.replace(agent(name), state="ended", verdict="completed")
    changed = JobAgentChanged(at=now + timedelta(seconds=5), by="status_tracker/1", was="running", record=record)
    await bus.publish(subjects.JOB_AGENT_CHANGED, "cpu", changed)
    shown = nacre(nats_server, f"{name}.0").stdout
    assert "Slurm job 16" in shown
    assert "running -> ended: completed" in shown
    assert trace.format_trace_id(span.get_span_context().trace_id) in shown


async def test_what_is_wrong_is_said(bus: Bus, nats_server: NatsServer) -> None:
    """An unknown agent, a name that is none, and NATS away: one line each, with distinct exit codes."""
    unknown = nacre(nats_server, "nacre-cpu-20261123t120000-abc.0")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (77, 1)
    assert "nothing names" in unknown.stderr
    assert "is no job agent" in nacre(nats_server, "rubbish").stderr
    away = nacre(nats_server, "nacre-cpu-20261123t120000-abc.0", "--url", "nats://127.0.0.1:1")
    assert away.returncode == 69
    assert "did not answer" in away.stderr
