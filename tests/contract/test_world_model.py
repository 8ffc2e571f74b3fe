"""The model Slurm beyond what a real one shows in a test: time, states, lags, failures, a controller that forgets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.superfacility_session import Facility, eventually, jobs, result_of, script, submit
from tests.world.processes import start
from tests.world.superfacility.model.jobs import ENDED_STATES, FLAGGED_PENDING, FLAGGED_RUNNING

pytestmark = pytest.mark.timeout(120)


@contextmanager
def model(state: Path, *arguments: str) -> Iterator[tuple[Facility, httpx.Client]]:
    """A synthetic model and an authorised client."""
    base = ("--state", str(state), "--slurm", "model", "--synthetic", "--nodes", "4")
    with start("tests.world.superfacility", *base, *arguments) as (_, ready):
        outside = Facility(ready, "model")
        with outside.client() as client:
            yield outside, client


def job(name: str, *options: str, line: str = "run_s=100000") -> str:
    return script(f"# nacre: {line}", options=[f"-J {name}", "-t 2000", *options])


def slurm(outside: Facility, action: str, **asked: Any) -> Any:
    return outside.admin("POST", "/_slurm", action=action, **asked)


def states(client: httpx.Client, name: str) -> list[str]:
    return [row["state"] for row in jobs(client, f"name={name}", "states=all")]


def watch(client: httpx.Client, name: str, last: str) -> set[str]:
    """Wait for a job's state; returns every state that was seen on the way."""
    seen: set[str] = set()

    def look() -> bool:
        seen.update(states(client, name))
        return last in seen

    eventually(look)
    return seen


def record(client: httpx.Client, name: str) -> list[dict[str, str]]:
    rows = jobs(client, f"name={name}", "starttime=now-1days", sacct=True)
    return [row for row in rows if "." not in row["jobid"]]


def ledger(outside: Facility, name: str) -> list[dict[str, Any]]:
    return [row for row in outside.admin("GET", "/ledger") if row["name"] == name]


def run(client: httpx.Client, line: str) -> dict[str, Any]:
    begun = client.post("/utilities/command/perlmutter", data={"executable": line}).json()
    return result_of(client, begun["task_id"])


def test_an_hour_takes_a_second_at_speed_3600(tmp_path: Path) -> None:
    """Elapsed times are model time; instants are the wall clock's; run_s and the time limit are kept exactly."""
    with model(tmp_path, "--speed", "3600") as (outside, client):
        submit(client, job("nacre-hour", "--array=0-7", line="run_s=3600"))
        submit(client, job("nacre-over", "-t 10", line="run_s=3600"))
        eventually(lambda: all(row["ended_at"] for row in outside.admin("GET", "/ledger")))
        rows = outside.admin("GET", "/ledger")
        assert {row["state"] for row in rows if row["name"] == "nacre-hour"} == {"COMPLETED"}
        assert abs(rows[0]["ended_at"] - time.time()) < 60
        assert [row["elapsed"] for row in record(client, "nacre-hour")] == ["01:00:00"] * 8
        (over,) = record(client, "nacre-over")
        assert (over["state"], over["elapsed"]) == ("TIMEOUT", "00:10:00")


def test_a_void_job_ends_with_85(tmp_path: Path) -> None:
    """void_after is compared with the instant of the submission on the wall clock, at any speed."""
    with model(tmp_path, "--speed", "100") as (outside, client):
        submit(client, job("nacre-void", line=f"void_after={time.time() - 5:.0f} run_s=60"))
        submit(client, job("nacre-good", line=f"void_after={time.time() + 60:.0f} run_s=60"))
        eventually(lambda: all(row["ended_at"] for row in outside.admin("GET", "/ledger")))
        found = {row["name"]: (row["state"], row["exit_code"], row["void"]) for row in outside.admin("GET", "/ledger")}
        assert found == {"nacre-void": ("FAILED", 85, True), "nacre-good": ("COMPLETED", 0, False)}


def test_every_state_of_slurm_can_be_seen(tmp_path: Path) -> None:
    """Each ended state, each flag and each state on the way is listed under its own name."""
    with model(tmp_path, "--speed", "100", "--configuring-s", "60", "--completing-s", "60") as (outside, client):
        seen: set[str] = set()
        for state in ENDED_STATES:
            name = f"nacre-{state.lower().replace('_', '-')}"
            job_id = submit(client, job(name, "--no-requeue"))["jobid"]
            seen |= watch(client, name, "RUNNING")
            slurm(outside, "end", job=job_id, state=state)
            assert states(client, name) == [state]
            assert record(client, name)[0]["state"].split(" ")[0] == state
        for flags, hold in ((FLAGGED_PENDING, True), (FLAGGED_RUNNING, False)):
            for state in flags:
                name = f"nacre-{state.lower().replace('_', '-')}"
                job_id = submit(client, job(name, *(["-H"] if hold else [])))["jobid"]
                if not hold:
                    seen |= watch(client, name, "RUNNING")
                slurm(outside, "mark", job=job_id, state=state)
                assert [row["state"] for row in jobs(client, f"name={name}")] == [state]
                client.delete(f"/compute/jobs/perlmutter/{job_id}")
                seen |= watch(client, name, "CANCELLED")
        assert {"CONFIGURING", "RUNNING", "COMPLETING"} <= seen


def test_hold_suspend_and_requeue_as_scontrol_does(tmp_path: Path) -> None:
    """A held job waits, a suspended one does not age, a requeued one waits for its begin time and keeps its id."""
    with model(tmp_path, "--speed", "60") as (outside, client):
        job_id = submit(client, job("nacre-orders", "-H"))["jobid"]
        assert jobs(client)[0]["reason"] == "JobHeldUser"
        assert run(client, f"scontrol release {job_id}")["status"] == "ok"
        eventually(lambda: states(client, "nacre-orders") == ["RUNNING"])
        run(client, f"scontrol suspend {job_id}")
        frozen = jobs(client)[0]
        time.sleep(0.3)
        assert (frozen["st"], jobs(client)[0]["time"]) == ("S", frozen["time"])
        run(client, f"scontrol resume {job_id}")
        run(client, f"scontrol requeue {job_id}")
        row = jobs(client)[0]
        assert (row["jobid"], row["st"], row["reason"]) == (job_id, "PD", "BeginTime")
        assert record(client, "nacre-orders")[0]["state"] == "REQUEUED"
        eventually(lambda: states(client, "nacre-orders") == ["RUNNING"])
        assert ledger(outside, "nacre-orders")[0]["restarts"] == 1


def test_node_failures_end_or_requeue_their_jobs(tmp_path: Path) -> None:
    """--no-requeue ends as NODE_FAIL; others wait again; downed nodes run nothing until they are resumed."""
    with model(tmp_path, "--speed", "60") as (outside, client):
        submit(client, job("nacre-stays", "--no-requeue"))
        submit(client, job("nacre-again"))
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 2)
        nodes = [row["nodelist"] for row in jobs(client)]
        assert sorted(slurm(outside, "fail_nodes", nodes=nodes)["nodes"]) == sorted(nodes)
        assert states(client, "nacre-stays") == ["NODE_FAIL"]
        assert states(client, "nacre-again") == ["PENDING"]
        assert record(client, "nacre-again")[0]["state"] == "NODE_FAIL"
        submit(client, job("nacre-rest", "--array=0-3"))
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 2)
        assert run(client, "sinfo -h -o '%t|%D'")["output"] == "down|2\nalloc|2\n"
        slurm(outside, "resume_nodes")
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 4)


def test_random_failures_come_by_their_rate(tmp_path: Path) -> None:
    """With a mean of 600 s between failures, some of a day's jobs end as NODE_FAIL and the rest complete."""
    arguments = ("--speed", "20000", "--node-failures-s", "3000", "--seed", "3")
    with model(tmp_path, *arguments) as (outside, client):
        submit(client, job("nacre-many", "--array=0-95", "--no-requeue", line="run_s=3600"))
        eventually(lambda: all(row["ended_at"] for row in ledger(outside, "nacre-many")))
        found = [row["state"] for row in ledger(outside, "nacre-many")]
        assert 2 <= found.count("NODE_FAIL") <= 50
        assert found.count("NODE_FAIL") + found.count("COMPLETED") == 96


def test_a_controller_that_forgets_gives_ids_out_again(tmp_path: Path) -> None:
    """Forgotten jobs are in no listing, their ids name other jobs, and only the ledger still has them."""
    with model(tmp_path) as (outside, client):
        kept = submit(client, job("nacre-kept"))["jobid"]
        lost = submit(client, job("nacre-lost", "--array=0-2"))["jobid"]
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 4)
        assert slurm(outside, "forget", jobs=[lost])["forgotten"] == [int(lost)]
        again = submit(client, job("nacre-new"))["jobid"]
        assert again == lost
        assert {row["name"] for row in jobs(client)} == {"nacre-kept", "nacre-new"}
        assert record(client, "nacre-lost") == []
        assert {row["state"] for row in ledger(outside, "nacre-lost")} == {"FORGOTTEN"}
        assert {row["job_id"] for row in ledger(outside, "nacre-new")} == {lost}
        assert len(slurm(outside, "forget", younger_than_s=600)["forgotten"]) == 2
        assert jobs(client) == []
        assert submit(client, job("nacre-first"))["jobid"] == kept


def test_nothing_starts_into_a_planned_outage(tmp_path: Path) -> None:
    """A job that would reach into the maintenance waits with Slurm's reason; a short one still starts."""
    with model(tmp_path) as (outside, client):
        outside.admin("POST", "/_outages", start_at=time.time() + 1800, end_at=time.time() + 7200)
        submit(client, job("nacre-long", "-t 60"))
        submit(client, job("nacre-short", "-t 10"))
        eventually(lambda: states(client, "nacre-short") == ["RUNNING"])
        (row,) = jobs(client, "name=nacre-long")
        assert (row["st"], row["reason"]) == ("PD", "ReqNodeNotAvail, Reserved for maintenance")
        outside.admin("DELETE", "/_outages")
        eventually(lambda: states(client, "nacre-long") == ["RUNNING"])


def test_an_outage_that_begins_empties_the_machine(tmp_path: Path) -> None:
    """From its start the outage is Active and the machine unavailable; what still ran has failed with its node."""
    with model(tmp_path) as (outside, client):
        submit(client, job("nacre-runs", "--no-requeue"))
        eventually(lambda: states(client, "nacre-runs") == ["RUNNING"])
        outside.admin("POST", "/_outages", start_at=time.time() + 0.5, end_at=time.time() + 60)
        eventually(lambda: states(client, "nacre-runs") == ["NODE_FAIL"])
        eventually(lambda: client.get("/status/perlmutter").json()["status"] == "unavailable")
        assert client.get("/status/outages/perlmutter").json()[0]["status"] == "Active"
        assert client.get("/status/outages/planned/perlmutter").json() == []


def test_lagging_views_show_what_was(tmp_path: Path) -> None:
    """With lags a new job is in no listing for a while, and sacct learns of an end later than squeue."""
    with model(tmp_path, "--squeue-lag-s", "1", "--sacct-lag-s", "3") as (_, client):
        job_id = submit(client, job("nacre-lag", line="run_s=1"))["jobid"]
        assert jobs(client) == []
        assert record(client, "nacre-lag") == []
        assert client.get(f"/compute/jobs/perlmutter/{job_id}").json()["status"] == "ERROR"
        seen = watch(client, "nacre-lag", "COMPLETED")
        assert not [row for row in record(client, "nacre-lag") if row["state"] == "COMPLETED"]
        eventually(lambda: [row["state"] for row in record(client, "nacre-lag")] == ["COMPLETED"])
        assert "RUNNING" in seen


def test_away_is_told_as_slurm_tells_it(tmp_path: Path) -> None:
    """Without its controller squeue and sbatch fail in words; without accounting only sacct does."""
    with model(tmp_path) as (outside, client):
        slurm(outside, "away")
        answer = client.get("/compute/jobs/perlmutter", params={"cached": False}).json()
        assert answer["status"] == "ERROR"
        assert "Unable to contact slurm controller" in answer["error"]
        assert "Unable to contact slurm controller" in submit(client, job("nacre-away"))["error"]
        slurm(outside, "back")
        slurm(outside, "away", what="accounting")
        assert jobs(client) == []
        assert client.get("/compute/jobs/perlmutter", params={"sacct": True}).json()["status"] == "ERROR"
        slurm(outside, "back", what="accounting")
        slurm(outside, "refuse", text="Job violates accounting/QOS policy", count=1)
        assert submit(client, job("nacre-no"))["error"].endswith("failed: Job violates accounting/QOS policy")
        assert submit(client, job("nacre-yes"))["status"] == "ok"


def test_limits_hold_and_say_their_name(tmp_path: Path) -> None:
    """The submit limit counts array tasks; debug runs two; a big job waits for nodes while small ones fill in."""
    with model(tmp_path, "--submit-limit", "6") as (_, client):
        for number in range(3):
            submit(client, script("# nacre: run_s=1000", options=["-q debug", f"-J nacre-debug-{number}"]))
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 2)
        assert [row["reason"] for row in jobs(client, "states=PENDING")] == ["QOSMaxJobsPerUserLimit"]
        submit(client, job("nacre-big", "-N 3"))
        submit(client, job("nacre-small", "-t 5"))
        eventually(lambda: states(client, "nacre-small") == ["RUNNING"])
        assert [row["reason"] for row in jobs(client, "name=nacre-big")] == ["Resources"]
        assert "QOSMaxSubmitJobPerUserLimit" in submit(client, job("nacre-more", "--array=0-4"))["error"]
        assert submit(client, job("nacre-fits", "--array=0-3"))["status"] == "ok"


def test_truncated_task_lists_are_marked(tmp_path: Path) -> None:
    """A long list of pending tasks ends in `...`; squeue -r counts them all."""
    with model(tmp_path) as (_, client):
        job_id = submit(client, job("nacre-gaps", "--array=0-499", "-H"))["jobid"]
        gone = ",".join(f"{job_id}_{index}" for index in range(0, 500, 7))
        run(client, f"scancel {gone.replace(',', ' ')}")
        (row,) = jobs(client)
        assert row["array_task_id"].endswith("...")
        assert len(row["array_task_id"]) <= 64
        assert run(client, "squeue -h -r | wc -l")["output"].strip() == str(500 - len(range(0, 500, 7)))


def test_gpu_jobs_run_on_gpu_nodes(tmp_path: Path) -> None:
    """-C gpu takes nodes of its own and leaves the CPU nodes to the others."""
    with model(tmp_path, "--gpu-nodes", "2") as (_, client):
        submit(
            client,
            script("# nacre: run_s=1000", options=["-J nacre-gpu", "--gpus-per-node=4", "--array=0-2"]).replace(
                "-C cpu", "-C gpu"
            ),
        )
        submit(client, job("nacre-cpu", "--array=0-4"))
        eventually(lambda: len(jobs(client, "states=RUNNING")) == 6)
        nodes = {row["nodelist"] for row in jobs(client, "name=nacre-gpu", "states=RUNNING")}
        assert nodes == {"nid001000", "nid001001"}


def test_a_process_model_runs_scripts_and_requeues_them(tmp_path: Path) -> None:
    """Without --synthetic each start is a process that knows how often it was requeued; speed only ages the rest."""
    with start("tests.world.superfacility", "--state", str(tmp_path), "--slurm", "model", "--speed", "100") as (
        _,
        ready,
    ):
        outside = Facility(ready, "model")
        with outside.client() as client:
            said = tmp_path / "said"
            text = script(
                f'echo "x${{SLURM_RESTART_COUNT:-0}}" >> {said}',
                "sleep 60",
                options=["-J nacre-real", "-o /dev/null", "-t 600"],
            )
            job_id = submit(client, text)["jobid"]
            eventually(lambda: said.exists() and said.read_text() == "x0\n")
            run(client, f"scontrol requeue {job_id}")
            eventually(lambda: said.read_text() == "x0\nx1\n")
            run(client, f"scancel {job_id}")
            eventually(lambda: ledger(outside, "nacre-real")[0]["state"] == "CANCELLED")


def test_clients_expire_and_are_bound_to_addresses(tmp_path: Path) -> None:
    """A client from elsewhere or past its life is invalid_client, its tokens too; another client takes over."""
    with model(tmp_path, "--token-life-s", "2") as (outside, client):
        own = outside.ready["client_id"]
        outside.admin("POST", "/_clients", client_id=own, addresses=["127.0.0.2/32"])
        assert outside.ask_token(outside.assertion()).json()["error"] == "invalid_client"
        assert client.get("/tasks").status_code == 401
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as elsewhere:
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": outside.assertion(),
            }
            assert elsewhere.post(outside.ready["token_url"], data=form).json()["expires_in"] == 2
        outside.admin("POST", "/_clients", client_id=own, addresses=[])
        new = outside.admin("POST", "/_clients", name="renewed")
        renewed = Facility(outside.ready | {"client_id": new["client_id"], "key_path": new["key_path"]}, "model")
        with renewed.client() as session:
            outside.admin("POST", "/_clients", client_id=own, life_s=0)
            assert outside.ask_token(outside.assertion()).status_code == 401
            assert {one["name"] for one in session.get("/account/clients").json()} == {"nacre", "renewed"}
            eventually(lambda: session.get("/tasks").status_code == 401, timeout_s=5)


def test_a_young_task_answers_500(tmp_path: Path) -> None:
    """With a settle time GET of a new task is 500 for about so long, and then works."""
    with model(tmp_path, "--task-settle-s", "0.5") as (_, client):
        task = client.post("/utilities/command/perlmutter", data={"executable": "true"}).json()["task_id"]
        assert client.get(f"/tasks/{task}").status_code == 500
        eventually(lambda: client.get(f"/tasks/{task}").status_code == 200)


def test_a_cached_listing_ages(tmp_path: Path) -> None:
    """cached=true, the default, shows an old listing until it is too old; cached=false never does."""
    with model(tmp_path, "--cache-s", "2") as (_, client):
        assert client.get("/compute/jobs/perlmutter").json()["output"] == []
        submit(client, job("nacre-cached"))
        assert client.get("/compute/jobs/perlmutter").json()["output"] == []
        assert len(jobs(client)) == 1
        eventually(lambda: client.get("/compute/jobs/perlmutter").json()["output"], timeout_s=5)


def test_files_go_up_and_down_with_their_slashes(tmp_path: Path) -> None:
    """ls, upload and download keep the leading slash and binary content, and refuse what is missing or above 5 MiB."""
    with model(tmp_path / "state") as (_, client):
        path = tmp_path / "file.bin"
        content = bytes(range(256)) * 10
        put = client.put(f"/utilities/upload/perlmutter/{path}", files={"file": content}).json()
        assert (put["status"], path.read_bytes()) == ("OK", content)
        got = client.get(f"/utilities/download/dtns/{path}", params={"binary": True}).json()
        assert (got["status"], got["is_binary"], len(got["file"])) == ("OK", True, 3416)
        (entry,) = client.get(f"/utilities/ls/perlmutter/{path}").json()["entries"]
        assert (entry["name"], entry["size"], entry["perms"][0]) == (str(path), 2560.0, "-")
        names = [one["name"] for one in client.get(f"/utilities/ls/perlmutter/{tmp_path}").json()["entries"]]
        assert names == [".", "..", "file.bin", "state"]
        single = client.get(f"/utilities/ls/perlmutter{path}").json()
        assert (single["status"], single["entries"]) == ("ERROR", [])
        assert "No such file or directory" in single["error"]
        exact, above = b"x" * 5_242_880, b"x" * 5_242_881
        assert client.put(f"/utilities/upload/perlmutter/{path}", files={"file": exact}).json()["status"] == "OK"
        assert client.get(f"/utilities/download/perlmutter/{path}").json()["file"] == exact.decode()
        assert client.put(f"/utilities/upload/perlmutter/{path}", files={"file": above}).json()["status"] == "ERROR"
        path.write_bytes(above)
        assert client.get(f"/utilities/download/perlmutter/{path}").json()["status"] == "ERROR"


@pytest.mark.parametrize(
    "asked",
    [{}, {"action": "dance"}, {"action": "end", "job": "99"}, {"action": "fail_nodes", "nodes": ["nope"]},
     {"action": "forget"}, {"action": "away", "what": "moon"}, {"action": "refuse", "count": "x"}],
    ids=json.dumps,
)  # fmt: skip
def test_wrong_wishes_are_refused_in_words(facility: Facility, asked: dict[str, Any]) -> None:
    """What the model cannot do is 400 with a reason; a real Slurm takes no wishes at all."""
    answer = httpx.post(facility.ready["admin_url"] + "/_slurm", json=asked, verify=False)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


def test_awkward_comments_come_through_whole(tmp_path: Path) -> None:
    """Quotes, percent signs and backslashes in a comment are in both listings as they were given."""
    awkward = 'a"b %s 100% \\n é'
    with model(tmp_path, "--speed", "60") as (_, client):
        for number in range(2):
            submit(client, job(f"nacre-awkward-{number}", "--array=0-1", f"--comment='{awkward}'", line="run_s=60"))
        assert {row["comment"] for row in jobs(client)} == {awkward}
        eventually(lambda: not jobs(client))
        rows = record(client, "nacre-awkward-0") + record(client, "nacre-awkward-1")
        assert [row["comment"] for row in rows] == [awkward] * 4


def test_ended_records_are_listed_as_sacct_prints_them(tmp_path: Path) -> None:
    """A listing too long for one piece is its pages one after the other, and the very table of the command."""
    day = "starttime=now-1days"
    with model(tmp_path, "--speed", "3600") as (outside, client):
        for number, comment in enumerate(('a"b %s 100% \\n é', "splits | the | table")):
            line = f"run_s=60 exit_code={number}"
            submit(client, job(f"nacre-many-{number}", "--array=0-39", f"--comment='{comment}'", line=line))
        for options in (["--begin=now+1day"], ["--begin=now+1day", "--array=0-2"]):
            submit(client, job("nacre-never", *options))
        run(client, "scancel -n nacre-never")
        eventually(lambda: all(row["ended_at"] for row in outside.admin("GET", "/ledger")))
        whole = jobs(client, day, sacct=True)
        assert (whole[0]["comment"], len(whole)) == ('a"b %s 100% \\n é', 2 * 80 + 2)
        pages = [jobs(client, day, sacct=True, index=first, limit=30) for first in range(0, 180, 30)]
        assert [row for page in pages for row in page] == whole
        header, *lines = run(client, "sacct -P -o ALL -S now-1days")["output"].splitlines()
        names = header.lower().split("|")
        assert [dict(zip(names, line.split("|"), strict=False)) for line in lines] == whole
