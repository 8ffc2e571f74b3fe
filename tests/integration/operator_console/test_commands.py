"""The commands that read, as processes against a real nats-server."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import msgspec

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import (
    AgentDay,
    AgentMap,
    Credential,
    CredentialObserved,
    DecisionInputs,
    Finished,
    JobAgent,
    JobAgentChanged,
    NodeCleared,
    NodeSuspected,
    SubmissionDecided,
)
from libs.runtime import clock
from tests.nats_server import NatsServer
from tests.unit.slurm_submitter.sites import agent, demand, listing

HOSTILE = "over\x1b[2J<script>"


async def nacre(server: NatsServer, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "services.operator_console.cli", *arguments]
    own = os.environ | {"NACRE_NATS_URL": server.url, "COLUMNS": "220"} | environment
    # In a thread: services that live in the test go on answering.
    return await asyncio.to_thread(
        subprocess.run, command, env=own, capture_output=True, text=True, timeout=30, check=False
    )


async def write(bus: Bus, name: str, **changes: object) -> JobAgent:
    """One job agent's record, with its event."""
    record = msgspec.structs.replace(agent(name), **changes)
    await bus.bucket(subjects.JOB_AGENTS_BUCKET).write(record.agent, record, 0)
    changed = JobAgentChanged(at=clock.now(), by="status_tracker/1", was=None, record=record)
    await bus.publish(subjects.JOB_AGENT_CHANGED, record.ce, changed, msg_id=record.agent)
    return record


async def decide(bus: Bus, submit: int, bound: str, why: str, before_s: float) -> None:
    """One decision of the journal."""
    inputs = DecisionInputs(
        waiting=7, max_jobs=10, max_queued=20, queued=18, running=0, unaccounted=None, unlisted=2, unlisted_all_ces=2,
        starting=0, user_jobs_in_qos=20, demand_age_s=3.0, listing_age_s=4.0,
    )  # fmt: skip
    at = clock.now() - timedelta(seconds=before_s)
    decided = SubmissionDecided(
        at=at, by="slurm_submitter/1", ce="cpu", submit=submit, bound=bound, why=why, inputs=inputs, limits={bound: 0}
    )
    await bus.publish(subjects.SUBMISSION_DECIDED, "cpu", decided)


async def test_status_shows_everything_and_its_age(bus: Bus, nats_server: NatsServer) -> None:
    """Known numbers as numbers, unknown ones as `?`; services, credentials and relays, or that none has spoken."""
    now = clock.now()
    await bus.publish(subjects.DEMAND_OBSERVED, "cpu", demand(7, at=now - timedelta(seconds=30)))
    await bus.publish(subjects.BATCH_QUEUE_OBSERVED, "cpu", listing(18, 5, at=now, listed_at=now, unaccounted=None))
    await bus.register("queue_poller", "1")
    await decide(bus, 0, "max_queued", "0 submitted because max_queued 20 is reached: 18 queued, 2 unlisted", 5)
    shown = (await nacre(nats_server, "status")).stdout
    line = next(line.split() for line in shown.splitlines() if line.strip().startswith("cpu "))
    assert line[:4] == ["cpu", "7", "30", "s"] or line[:3] == ["cpu", "7", "31"]
    assert "?" in line
    assert "max_queued 20 is reached" in shown
    assert "queue_poller/1" in shown
    assert "cert_renewer has said nothing" in shown
    house = json.loads((await nacre(nats_server, "status", "--json")).stdout)
    assert house["ces"][0]["batch_queue"]["unaccounted"] is None


async def test_explain_names_what_bound_and_when_that_changed(bus: Bus, nats_server: NatsServer) -> None:
    """The last decision with its inputs, the history's turning points only, and an unknown CE refused by name."""
    await bus.publish(subjects.DEMAND_OBSERVED, "cpu", demand(7, at=clock.now()))
    for before_s in (50, 40, 30):
        await decide(bus, 0, "locked", "0 submitted because the CE is locked", before_s)
    await decide(bus, 0, "max_queued", "0 submitted because max_queued 20 is reached: 18 queued, 2 unlisted", 5)
    shown = (await nacre(nats_server, "explain", "cpu")).stdout
    assert shown.count("because the CE is locked") == 1
    assert "<- bound" in shown
    history = json.loads((await nacre(nats_server, "explain", "--json")).stdout)["cpu"]["history"]
    assert [one["bound"] for one in history] == ["locked", "max_queued"]
    unknown = await nacre(nats_server, "explain", "gpu")
    assert (unknown.returncode, "there are: cpu" in unknown.stderr) == (77, True)


async def test_agents_are_found_shown_and_exported(bus: Bus, nats_server: NatsServer) -> None:
    """By state, node and piece of text; other people's text cannot steer a terminal or a spreadsheet."""
    good = await write(bus, "nacre-cpu-20261123t120000-aaa", state="ended", nodes="nid001234", verdict="completed")
    bad = await write(bus, "nacre-cpu-20261123t120001-bbb", state="ended", nodes="nid001235", verdict=HOSTILE)
    found = json.loads((await nacre(nats_server, "agents", "list", "--search", "NID001234", "--json")).stdout)
    assert [one["agent"] for one in found] == [good.agent]
    shown = (await nacre(nats_server, "agents", "list", "--state", "ended")).stdout
    assert "\x1b" not in shown
    assert "<script>" in shown
    assert "\x1b" not in (await nacre(nats_server, "agents", "show", bad.agent)).stdout
    assert (await nacre(nats_server, "agents", "show", "nacre-x.0")).returncode == 77
    assert (await nacre(nats_server, "agents", "show", "a b*>")).returncode == 77
    rows = (await nacre(nats_server, "agents", "export")).stdout.splitlines()
    assert rows[0].startswith("agent,submission,")
    assert len(rows) >= 3
    lines = (await nacre(nats_server, "agents", "export", "--format", "jsonl")).stdout.splitlines()
    assert {json.loads(line)["agent"] for line in lines} == {good.agent, bad.agent}


async def test_nodes_credentials_and_events(bus: Bus, nats_server: NatsServer) -> None:
    """Suspected nodes that were not cleared, credentials with days left, and what happened, each as one line."""
    now = clock.now()
    until = now + timedelta(hours=1)
    for node in ("nid1", "nid2"):
        suspected = NodeSuspected(at=now, by="status_tracker/1", machine="m", node=node, until=until, why="agents fail")
        await bus.publish(subjects.NODE_SUSPECTED, "m", suspected, msg_id=node)
    cleared = NodeCleared(at=now, by="status_tracker/1", machine="m", node="nid2", why="one ran")
    await bus.publish(subjects.NODE_CLEARED, "m", cleared)
    shown = (await nacre(nats_server, "nodes")).stdout
    assert ("nid1" in shown, "nid2" in shown) == (True, False)
    nothing = await nacre(nats_server, "credentials")
    assert (nothing.returncode, "is it up" in nothing.stderr) == (69, True)
    one = Credential(kind="host_certificate", source="directory", checked_at=now, days_left=13.25)
    observed = CredentialObserved(at=now, by="cert_renewer/1", credentials=[one])
    await bus.publish(subjects.CREDENTIAL_OBSERVED, "site", observed)
    assert "13.2" in (await nacre(nats_server, "credentials")).stdout
    assert "node.suspected status_tracker/1 why=agents fail" in (await nacre(nats_server, "events")).stdout


async def test_nats_away_is_one_line(nats_server: NatsServer) -> None:
    """Exit code 69 and one line that says what to look at, from every command that reads."""
    commands = (["status"], ["explain"], ["agents", "list"], ["events"], ["nodes"], ["submissions"])
    tries = (nacre(nats_server, *arguments, "--url", "nats://127.0.0.1:1") for arguments in commands)
    for away in await asyncio.gather(*tries):
        assert (away.returncode, away.stderr.count("\n"), away.stdout) == (69, 1, "")
        assert "did not answer" in away.stderr


async def test_context_is_written_where_the_nats_cli_looks(nats_server: NatsServer, tmp_path: Path) -> None:
    """URL, key and CA; the keys themselves stay in their files."""
    seed = tmp_path / "viewer.nk"
    seed.write_text("SUAA-a-secret")
    await nacre(nats_server, "context", XDG_CONFIG_HOME=str(tmp_path), NACRE_NATS_NKEY_FILE=str(seed))
    text = (tmp_path / "nats" / "context" / "nacre.json").read_text()
    assert json.loads(text)["url"] == nats_server.url
    assert json.loads(text)["nkey"] == str(seed)
    assert "a-secret" not in text


async def test_the_history_of_finished_agents(nats_server: NatsServer, bus: Bus) -> None:
    """Days and the map as CSV and JSON lines, by CE, day, node and ALICE job."""
    one = Finished(
        agent="nacre-cpu-20261123t030000-a1.0", job_id="7_0", node="nid001", submit_s=1_795_402_800, start_s=None,
        end_s=None, ending="cancelled", exit_code=None, run=0, node_hours=None, working_hours=None,
        grid_jobs_total=1, grid_jobs=[3_000_000_001],
    )  # fmt: skip
    other = msgspec.structs.replace(one, agent="=evil()", node="nid002", grid_jobs=[])
    for day, number, part in (("2026-11-23", 0, [one]), ("2026-11-24", 0, [other])):
        await bus.bucket(subjects.AGENT_MAP_BUCKET).write(
            f"cpu.{day}.{number}", AgentMap(ce="cpu", day=day, agents=part), 0
        )
        summary = AgentDay(
            ce="cpu", day=day, agents=1, endings={"cancelled": 1}, node_hours=4.0, monitored_node_hours=2.0,
            working_hours=1.5, parts=1,
        )  # fmt: skip
        await bus.bucket(subjects.AGENT_DAYS_BUCKET).write(f"cpu.{day}", summary, 0)
    days = await nacre(nats_server, "history", "days", "--format", "jsonl", "--since", "2026-11-24")
    assert [json.loads(line)["efficiency"] for line in days.stdout.splitlines()] == [0.75]
    csv_days = (await nacre(nats_server, "history", "days", "--ce", "cpu")).stdout.splitlines()
    assert csv_days[1].startswith("cpu,2026-11-23,1,4.0,0.75,0,cancelled=1")
    found = await nacre(nats_server, "history", "map", "--format", "jsonl", "--grid-job", "3000000001")
    line = json.loads(found.stdout)
    assert (line["node"], line["submit_at"], line["start_at"]) == ("nid001", "2026-11-23T03:00:00Z", None)
    exported = (await nacre(nats_server, "history", "map", "--until", "2026-11-24", "--node", "nid002")).stdout
    assert "'=evil()" in exported and "nid001" not in exported
    assert (await nacre(nats_server, "history", "map", "--ce", "gpu")).stdout.count("\n") == 1
