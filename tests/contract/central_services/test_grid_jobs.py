"""Grid jobs of the world's central services: added on the admin port, matched on the agent port, run by job agents."""

import http.client
import signal
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.central_services.conftest import ROOT, Central, RunningAgent, eventually
from tests.world.job_agent import encode_datagram

AgentRunner = Callable[..., RunningAgent]
TokenFiles = Callable[[Central], tuple[Path, Path]]


def held(central: Central, kind: str) -> list[list[str]]:
    """For each grid job the agents that took it, or that did it."""
    return [[one["agent"] for one in job[kind]] for job in central.admin("GET", "/ledger")["grid_jobs"]]


def name_and_node(datagram: bytes) -> tuple[str, str]:
    """Cluster and node of a datagram."""
    texts, at = [], 0
    for index in range(3):
        (size,) = struct.unpack_from(">i", datagram, at)
        texts.append(datagram[at + 4 : at + 4 + size].decode())
        at += 4 + size + -size % 4 + (8 if index == 0 else 0)
    return texts[1], texts[2]


def test_matching_gives_each_job_once(make_central: Callable[..., Central], token_files: TokenFiles) -> None:
    """Each agent gets another job, the same again while it holds it; a done counts once; then there is nothing left."""
    central = make_central()
    token = token_files(central)
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 2, "run_s": 0.5})
    asks: list[dict[str, object]] = [{"agent": f"s.{i}", "run": "r", "ce": "firstce"} for i in (0, 0, 1, 2)]
    answers = [central.agent("/match", ask, *token) for ask in asks]
    first, again, second, none = answers
    assert first == again and first[0] == second[0] == 200 and first[1] != second[1]
    assert none == (204, None)
    done: dict[str, object] = {"agent": "s.0", "run": "r", "grid_job_id": first[1]["grid_job_id"]}
    assert [central.agent("/done", done, *token)[0] for _ in range(2)] == [200, 200]
    assert central.agent("/done", {**done, "agent": "s.1"}, *token)[0] == 409
    assert (held(central, "takes"), held(central, "dones")) == ([["s.0"], ["s.1"]], [["s.0"], []])
    assert central.admin("GET", "/counts") == {"waiting": 0, "running": 1, "done": 1}
    assert central.admin("GET", "/counts?ce=firstce") == {"waiting": 0, "running": 1, "done": 1}


def test_a_second_run_of_an_agent_is_seen(make_central: Callable[..., Central], token_files: TokenFiles) -> None:
    """Two processes with one agent key share the job, and the ledger shows that it ran twice."""
    central = make_central()
    token = token_files(central)
    (grid_job_id,) = central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 1})["grid_job_ids"]
    for run in ("first", "second"):
        assert central.agent("/match", {"agent": "s.0", "run": run, "ce": "firstce"}, *token)[0] == 200
    for run in ("first", "second"):
        assert central.agent("/done", {"agent": "s.0", "run": run, "grid_job_id": grid_job_id}, *token)[0] == 200
    assert (held(central, "takes"), held(central, "dones")) == ([["s.0", "s.0"]], [["s.0", "s.0"]])


def test_agents_without_a_process_take_and_return(make_central: Callable[..., Central]) -> None:
    """By the admin's word agents hold one grid job each; what a dead one held waits again, and only that."""
    central = make_central()
    first, _ = central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 2})["grid_job_ids"]
    taken = central.admin("POST", "/takes", {"ce": "firstce", "agents": ["s.0", "s.1", "s.0", "s.2"]})["taken"]
    assert taken[0] == taken[2] == first and taken[1] not in (None, first) and taken[3] is None
    assert central.admin("POST", "/returns", {"agents": ["s.0", "s.9"]}) == {"returned": 1}
    assert central.admin("GET", "/counts") == {"waiting": 1, "running": 1, "done": 0}
    assert central.admin("POST", "/takes", {"ce": "firstce", "agents": ["s.2"]})["taken"] == [first]
    assert central.admin("POST", "/returns", {"agents": ["s.0"]}) == {"returned": 0}


def test_only_job_agents_are_served(central: Central) -> None:
    """The agent port refuses other accounts of the same authority, and clients without a certificate."""
    ordinary = Path(central.ready["ordinary_cert"]), Path(central.ready["ordinary_key"])
    assert central.agent("/match", {"agent": "s.0", "ce": "firstce"}, *ordinary)[0] == 403
    context = ssl.create_default_context(cafile=central.ready["ca"])
    port = int(central.ready["agent_url"].rpartition(":")[2])
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.request("POST", "/match", b"{}")
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/grid_jobs", b'{"ce": "nowhere", "count": 1}', 404),
        ("/grid_jobs", b'{"ce": "firstce"}', 400),
        ("/grid_jobs", b'{"ce": "firstce", "count": 0}', 400),
        ("/grid_jobs", b'{"ce": "firstce", "count": true}', 400),
        ("/grid_jobs", b'{"ce": "firstce", "count": 1, "run_s": NaN}', 400),
        ("/grid_jobs", b'{"ce": "firstce", "count": 1, "runs": 1}', 400),
        ("/grid_jobs", b"not JSON", 400),
        ("/grid_jobs", b"[" * 60000, 400),
        ("/grid_jobs", b" " * 70000, 413),
        ("/limits", b'{"ce": "firstce", "max_jobs": 1}', 400),
        ("/limits", b'{"ce": "firstce", "max_jobs": -1, "max_queued": 1}', 400),
        ("/lock", b"[]", 400),
        ("/lock", b'{"ce": ""}', 400),
        ("/counts", b"{}", 405),
        ("/nothing", b"{}", 404),
    ],
)
def test_bad_requests_are_told_why(central: Central, path: str, body: bytes, status: int) -> None:
    """The admin port answers a bad request with 4xx and a JSON error."""
    found, answer = central.admin_status("POST", path, body)
    assert found == status and answer["error"]


def test_kill_9_keeps_the_task_queue(make_central: Callable[..., Central], token_files: TokenFiles) -> None:
    """After kill -9 the jobs, who holds them, locks and limits are as before, and a token still works."""
    central = make_central()
    token = token_files(central)
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 3})
    central.admin("POST", "/lock", {"ce": "firstce"})
    ask: dict[str, object] = {"agent": "s.0", "run": "r", "ce": "firstce"}
    before = central.agent("/match", ask, *token)
    ledger = central.admin("GET", "/ledger")
    assert central.end(signal.SIGKILL) == -signal.SIGKILL
    central.start()
    assert central.admin("GET", "/ledger") == ledger
    assert central.agent("/match", ask, *token) == before
    assert central.admin("GET", "/counts") == {"waiting": 2, "running": 1, "done": 0}


def test_job_agents_do_all_grid_jobs(
    make_central: Callable[..., Central], token_files: TokenFiles, run_agent: AgentRunner
) -> None:
    """Two agents with tokens do every job once, end with 0 after fruitless matches, and count their datagrams right."""
    central = make_central()
    token = token_files(central)
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 4, "run_s": 0.2})
    agents = [run_agent(central, f"nacre-x.{i}", token, "", "--report-every-s", "0.1") for i in range(2)]
    assert [agent.process.wait(30) for agent in agents] == [0, 0]
    assert central.admin("GET", "/counts") == {"waiting": 0, "running": 0, "done": 4}
    assert all(len(names) == 1 for names in held(central, "takes"))
    assert held(central, "takes") == held(central, "dones")
    reported = {one["agent"]: one["datagrams_sent"] for one in central.admin("GET", "/ledger")["agents"]}
    received = [agent.datagrams() for agent in agents]
    assert reported == {f"nacre-x.{i}": len(datagrams) for i, datagrams in enumerate(received)}
    clusters = {name_and_node(datagram)[0] for datagrams in received for datagram in datagrams}
    assert clusters == {"ALIEN_alien.site.JobAgent_Nodes", f"{central.ready['ce']}_Jobs"}


def test_a_restart_loses_nothing(
    make_central: Callable[..., Central], token_files: TokenFiles, run_agent: AgentRunner
) -> None:
    """Central services are killed while agents hold jobs and stay away for a while: all jobs are done, once each."""
    central = make_central()
    token = token_files(central)
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 4, "run_s": 0.5})
    agents = [run_agent(central, f"nacre-x.{i}", token) for i in range(2)]
    eventually(lambda: central.admin("GET", "/counts")["running"] == 2)
    central.end(signal.SIGKILL)
    # Long enough for the agents to end their jobs and to find nobody there.
    time.sleep(1)
    central.start()
    assert [agent.process.wait(30) for agent in agents] == [0, 0]
    assert all(len(names) == 1 for names in held(central, "dones"))
    assert held(central, "takes") == held(central, "dones")


def test_sigterm_ends_an_agent(central: Central, token_files: TokenFiles, run_agent: AgentRunner) -> None:
    """On SIGTERM an agent ends at once with 143, reports its datagrams, and its job stays taken and not done."""
    (grid_job_id,) = central.admin("POST", "/grid_jobs", {"ce": "nolimits", "count": 1, "run_s": 600})["grid_job_ids"]
    token = token_files(central)

    def job() -> dict[str, Any]:
        found = central.admin("GET", "/ledger")["grid_jobs"]
        return next(one for one in found if one["id"] == grid_job_id)

    agent = run_agent(central, "nacre-term.0", token, "nolimits")
    eventually(lambda: job()["state"] == "running")
    agent.process.terminate()
    assert agent.process.wait(10) == 143
    (report,) = [one for one in central.admin("GET", "/ledger")["agents"] if one["agent"] == "nacre-term.0"]
    assert report["datagrams_sent"] == len(agent.datagrams()) > 0
    assert (len(job()["takes"]), job()["dones"]) == (1, [])


def test_an_ordinary_certificate_is_no_token(central: Central, run_agent: AgentRunner) -> None:
    """An agent whose certificate is refused ends with 3 and does not try again."""
    ordinary = Path(central.ready["ordinary_cert"]), Path(central.ready["ordinary_key"])
    assert run_agent(central, "nacre-x.0", ordinary).process.wait(20) == 3


def test_an_agent_gives_up_in_the_end(
    make_central: Callable[..., Central], token_files: TokenFiles, run_agent: AgentRunner
) -> None:
    """With central services away for longer than its patience an agent ends with 1."""
    central = make_central()
    token = token_files(central)
    central.end()
    try:
        assert run_agent(central, "nacre-x.0", token, "", "--patience-s", "0.5").process.wait(20) == 1
    finally:
        central.start()


def test_datagrams_are_as_real_senders_write_them() -> None:
    """The agent's encoder writes a recorded datagram of the genuine Java sender, but for the version in its header."""
    recorded = (ROOT / "tests" / "vectors" / "apmon" / "java_ce.bin").read_bytes()
    written = encode_datagram(
        password="",
        instance=0x0CE1A7D5,
        sequence=1,
        cluster="TestSite_CE_testce",
        node="voalice.example.org",
        parameters={"jobAgents_queued": 12, "jobAgents_running": 340, "jobAgents_slots": 0},
    )
    assert written.replace(b"2.2.9", b"2.2.8") == recorded
