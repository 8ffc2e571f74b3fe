"""Faults of the world's facility: every kind, exactly as often as asked; bad requests without a traceback."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.superfacility_session import Facility, eventually, jobs, script, submit
from tests.world.processes import start
from tests.world.superfacility.faults import KINDS

JOBS = "/compute/jobs/perlmutter"
LONG = script("# nacre: run_s=100000", options=["-J nacre-long", "--array=0-3"])


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "superfacility.log"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, log_path: Path) -> Iterator[Facility]:
    """The facility over a synthetic model; 20 tasks a second are nothing to it."""
    state = str(tmp_path_factory.mktemp("faults"))
    arguments = ("--slurm", "model", "--synthetic", "--speed", "60", "--nodes", "4", "--task-life-s", "1")
    with start("tests.world.superfacility", "--state", state, *arguments, log_path=log_path) as (_, ready):
        yield Facility(ready, "model")


@pytest.fixture
def client(outside: Facility) -> Iterator[httpx.Client]:
    with outside.client() as session:
        yield session
        outside.admin("DELETE", "/_faults")
        session.post("/utilities/command/perlmutter", data={"executable": f"scancel -u {outside.ready['user']}"})
        eventually(lambda: not jobs(session))


def form(name: str) -> dict[str, str]:
    return {"job": script("# nacre: run_s=60", options=[f"-J {name}", "-o /dev/null"]), "isPath": "false"}


def accepted(outside: Facility, name: str) -> int:
    return sum(row["name"] == name for row in outside.admin("GET", "/ledger"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_happens_exactly_as_often_as_asked(client: httpx.Client, outside: Facility, kind: str) -> None:
    """Asked for twice, a fault happens to two of five fitting requests, and the log says to which."""
    method = "GET" if kind in ("partial_listing", "stale_cache") else "POST"
    submit(client, LONG)
    eventually(lambda: len(jobs(client)) == 4)
    outside.admin("POST", "/_faults", kind=kind, path="/compute/jobs/*", method=method, count=2, delay_s=0.05)
    before = len(outside.admin("GET", "/_log"))
    for _ in range(5):
        with contextlib.suppress(httpx.TransportError):
            client.request(method, JOBS, data=form(f"nacre-{kind}") if method == "POST" else None)
    seen = outside.admin("GET", "/_log")[before:]
    assert [row["fault"] for row in seen] == [kind, kind, None, None, None]
    assert outside.admin("GET", "/_faults") == []
    assert set(seen[0]) >= {"at", "method", "path", "status", "fault"}
    if method == "POST":
        expected = 3 if kind in ("status", "rate_limited", "error_200") else 5
        eventually(lambda: accepted(outside, f"nacre-{kind}") == expected)


def test_a_slow_task_is_new_until_its_time_has_come(client: httpx.Client, outside: Facility) -> None:
    """The POST is answered at once; Slurm hears of the script only after the fault's delay."""
    outside.admin("POST", "/_faults", kind="slow_task", path=JOBS, method="POST", delay_s=1.0)
    task = client.post(JOBS, data=form("nacre-slow-task")).json()["task_id"]
    assert (client.get(f"/tasks/{task}").json()["status"], accepted(outside, "nacre-slow-task")) == ("new", 0)
    eventually(lambda: client.get(f"/tasks/{task}").json()["status"] == "completed")
    assert accepted(outside, "nacre-slow-task") == 1


def test_probability_spreads_a_fault_and_the_count_still_holds(client: httpx.Client, outside: Facility) -> None:
    """With probability 0.3 and count 5, exactly 5 of 100 requests are hit, and not the first five."""
    outside.admin("POST", "/_faults", kind="status", path=JOBS, method="GET", count=5, probability=0.3, seed=7)
    codes = [client.get(JOBS, params={"kwargs": "name=none"}).status_code for _ in range(100)]
    assert codes.count(503) == 5
    assert codes[:5] != [503] * 5


def test_a_refused_request_uses_no_fault_up(client: httpx.Client, outside: Facility) -> None:
    """What is not accepted cannot lose its answer: the fault waits for the next request."""
    outside.admin("POST", "/_faults", kind="late_504", path="/compute/jobs/*", method="POST")
    assert client.post(JOBS, data={"job": "x"}).status_code == 422
    assert httpx.post(outside.ready["api_base_url"] + JOBS, data=form("x"), verify=False).status_code == 403
    assert client.post(JOBS, data=form("nacre-used")).status_code == 504


def test_429_says_when_to_come_back(client: httpx.Client, outside: Facility) -> None:
    """A rate limit carries Retry-After."""
    outside.admin("POST", "/_faults", kind="rate_limited", path=JOBS, retry_after_s=7)
    answer = client.get(JOBS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_partial_and_stale_listings_look_whole(client: httpx.Client, outside: Facility) -> None:
    """A partial listing says OK and lacks rows; a stale one shows what was there when the fault was asked for."""
    outside.admin("POST", "/_faults", kind="stale_cache", path="/compute/jobs/*")
    submit(client, LONG)
    assert client.get(JOBS, params={"cached": False}).json()["output"] == []
    assert len(eventually(lambda: jobs(client))) == 4
    outside.admin("POST", "/_faults", kind="partial_listing", path="/compute/jobs/*", fraction=0.5)
    answer = client.get(JOBS).json()
    assert (answer["status"], len(answer["output"])) == ("OK", 2)
    assert len(jobs(client)) == 4


def test_a_stale_listing_keeps_the_filters(client: httpx.Client, outside: Facility) -> None:
    """The old rows are chosen by user, name and id as the new ones would be."""
    job_id = submit(client, LONG)["jobid"]
    eventually(lambda: len(jobs(client)) == 4)
    outside.admin("POST", "/_faults", kind="stale_cache", path="/compute/jobs/*", count=3)
    client.delete(f"{JOBS}/{job_id}")
    user = outside.ready["user"]
    assert [len(jobs(client, word)) for word in (f"user={user}", "name=other", f"jobid={job_id},1")] == [4, 0, 4]
    eventually(lambda: not jobs(client))


def test_a_post_executed_later_was_answered_long_before(client: httpx.Client, outside: Facility) -> None:
    """The client sees 504 at once; Slurm gets the script after the delay, and void_after makes it harmless."""
    outside.admin("POST", "/_faults", kind="late_execution", path="/compute/jobs/*", method="POST", delay_s=1.5)
    lines = f"# nacre: void_after={time.time() + 0.5:.3f} run_s=600"
    text = script(lines, options=["-J nacre-late", "-o /dev/null"])
    assert client.post(JOBS, data={"job": text, "isPath": "false"}).status_code == 504
    assert accepted(outside, "nacre-late") == 0
    eventually(lambda: accepted(outside, "nacre-late") == 1)
    (row,) = [row for row in outside.admin("GET", "/ledger") if row["name"] == "nacre-late"]
    ended = eventually(
        lambda: [r for r in outside.admin("GET", "/ledger") if r["name"] == "nacre-late" and r["ended_at"]]
    )
    assert (ended[0]["void"], ended[0]["exit_code"], row["job_id"]) == (True, 85, ended[0]["job_id"])


def test_a_lost_answer_is_silence(client: httpx.Client, outside: Facility) -> None:
    """The client runs into its own timeout although the job was accepted."""
    outside.admin("POST", "/_faults", kind="lost_answer", path="/compute/jobs/*", method="POST")
    with pytest.raises(httpx.ReadTimeout):
        client.post(JOBS, data=form("nacre-silence"), timeout=0.5)
    eventually(lambda: accepted(outside, "nacre-silence") == 1)


def test_tasks_vanish_after_their_life(client: httpx.Client) -> None:
    """A completed task is 404 once its life is over."""
    task = client.post(JOBS, data=form("nacre-vanish")).json()["task_id"]
    eventually(lambda: client.get(f"/tasks/{task}").status_code == 404, timeout_s=5)


BAD_FAULTS: list[Any] = [
    {"kind": "nonsense"}, {}, {"kind": "status", "count": 0}, {"kind": "status", "count": "2"},
    {"kind": "status", "count": 1.5}, {"kind": "status", "probability": 2}, {"kind": "status", "delay_s": -1},
    {"kind": "status", "code": 200}, {"kind": "status", "method": "BREW"}, {"kind": "status", "path": 5},
    {"kind": "status", "surprise": 1}, {"kind": "status", "count": True}, [], "x", None,
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_FAULTS, ids=str)
def test_a_wrong_fault_is_refused_in_words(outside: Facility, body: Any) -> None:
    """A fault that cannot be is 400 with a reason, and nothing is planned."""
    answer = httpx.post(outside.ready["admin_url"] + "/_faults", json=body, verify=False)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert outside.admin("GET", "/_faults") == []


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", f"{JOBS}?sacct=maybe", {}, 422),
    ("GET", f"{JOBS}?limit=-1", {}, 422),
    ("GET", f"{JOBS}?index=x", {}, 422),
    ("GET", f"{JOBS}?index=99999999999999999999", {}, 422),
    ("GET", f"{JOBS}?kwargs=jobid", {}, 200),
    ("GET", f"{JOBS}?kwargs=jobid=%00", {}, 200),
    ("GET", f"{JOBS}?kwargs=user=%ff%fe", {}, 200),
    ("GET", f"{JOBS}?sacct=true&kwargs=starttime=nonsense", {}, 200),
    ("GET", f"{JOBS}/no-id", {}, 200),
    ("POST", JOBS, {"data": {"job": "x", "isPath": "perhaps"}}, 422),
    ("POST", JOBS, {"content": b"\xff\x00garbage", "headers": {"content-type": "multipart/form-data"}}, 400),
    ("POST", JOBS, {"json": {"job": "x", "isPath": False}}, 422),
    ("POST", JOBS, {"files": {"job": b"x", "isPath": (None, "false")}}, 422),
    ("PUT", JOBS, {}, 405),
    ("POST", "/utilities/command/cori", {"data": {"executable": "true"}}, 422),
    ("POST", "/utilities/command/perlmutter", {"data": {"executable": "a 'b"}}, 200),
    ("POST", "/utilities/command/perlmutter", {"data": {"executable": "a\0b"}}, 200),
    ("PUT", "/utilities/upload/perlmutter//tmp/x", {"data": {"other": "x"}}, 422),
    ("PUT", "/utilities/upload/perlmutter//tmp/x", {"content": b"x" * (17 * 1024 * 1024)}, 413),
    ("GET", "/utilities/ls/perlmutter//tmp/%00", {}, 200),
    ("GET", "/utilities/download/perlmutter//tmp", {}, 200),
    ("GET", "/account/groups/nosuch", {}, 404),
    ("GET", "/account/?username=nobody-here", {}, 404),
    ("DELETE", "/tasks/x", {}, 404),
    ("GET", "/storage/globus", {}, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "code"), BAD_REQUESTS, ids=lambda value: str(value)[:40])
def test_bad_requests_get_json_and_no_traceback(
    client: httpx.Client, method: str, path: str, body: dict[str, Any], code: int
) -> None:
    """Whatever is asked, the answer is the API's JSON; a 200 says ERROR or began a task that fails."""
    answer = client.request(method, path, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/json")
    said = answer.json()
    assert "detail" in said if code != 200 else said["status"] == "ERROR" or said.get("task_id") or path.endswith("%fe")


def test_the_token_endpoint_refuses_nonsense(outside: Facility) -> None:
    """Wrong grants, wrong bodies and wrong assertions are OAuth errors."""
    url = outside.ready["token_url"]
    assert httpx.post(url, data={"grant_type": "password"}, verify=False).json() == {"error": "unsupported_grant_type"}
    assert (
        httpx.post(
            url, content=b"\xff", headers={"content-type": "application/x-www-form-urlencoded"}, verify=False
        ).status_code
        == 400
    )
    for assertion in ("", "a.b.c", "e30.e30.e30"):
        assert outside.ask_token(assertion).json()["error"] == "invalid_client"


def test_nothing_of_this_left_a_traceback(outside: Facility, log_path: Path) -> None:
    """The program's log, all tests of this module behind it, holds no traceback."""
    assert outside.admin("GET", "/_log")
    assert "Traceback" not in log_path.read_text()
