"""The world's Superfacility API keeps NERSC's contract, the same over a real Slurm and over the model of one."""

from __future__ import annotations

import concurrent.futures
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.contract.superfacility_session import Facility, eventually, jobs, result_of, script, submit
from tests.world.superfacility.model.columns import SACCT_COLUMNS, SQUEUE_HEADERS

pytestmark = pytest.mark.timeout(180)
JOBS = "/compute/jobs/perlmutter"


@pytest.fixture
def client(facility: Facility) -> Iterator[httpx.Client]:
    """An authorised client; afterwards no job is left."""
    with facility.client() as session:
        yield session
        facility.admin("DELETE", "/_faults")
        session.post("/utilities/command/perlmutter", data={"executable": f"scancel -u {facility.ready['user']}"})
        eventually(lambda: not jobs(session))


def ledger_of(facility: Facility, name: str) -> list[dict[str, Any]]:
    return [row for row in facility.admin("GET", "/ledger") if row["name"] == name]


def test_client_has_the_shape_nersc_gives_out(facility: Facility) -> None:
    """The client id has 13 characters and the key is a PEM file that only its owner reads."""
    key = Path(facility.ready["key_path"])
    assert len(facility.ready["client_id"]) == 13
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN")


def forged(facility: Facility) -> str:
    """The right claims, signed with a key that the facility does not know."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {name: facility.ready["client_id"] for name in ("iss", "sub")}
    return jwt.encode(claims | {"aud": facility.ready["token_url"], "exp": int(time.time()) + 60}, key, "RS256")


def test_token_needs_the_right_key_and_audience(facility: Facility) -> None:
    """A signed assertion gives a token of 600 s; another key, audience or an expired one is invalid_client."""
    good = facility.ask_token(facility.assertion())
    assert good.status_code == 200
    assert good.json()["expires_in"] == 600
    late, elsewhere = facility.assertion(exp=int(time.time()) - 60), facility.assertion(aud="https://elsewhere")
    for assertion in (forged(facility), late, elsewhere, "x"):
        refused = facility.ask_token(assertion)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_api_without_a_token_says_not_authenticated(facility: Facility) -> None:
    """Missing and wrong tokens get the API's own words; the status needs none."""
    base = facility.ready["api_base_url"]
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = httpx.get(base + JOBS, headers=headers, verify=False)
        assert answer.status_code in (401, 403)
        assert answer.json() == {"detail": "Not authenticated"}
    assert httpx.get(base + "/status/perlmutter", verify=False).json()["status"] == "active"


def test_status_and_outages_follow_the_admin(facility: Facility) -> None:
    """Status and planned outages can be set; outages of all resources come as a list of lists."""
    base = facility.ready["api_base_url"]
    facility.admin("POST", "/_status", status="degraded")
    facility.admin("POST", "/_outages", start_at=1_800_000_000, end_at="2027-02-01T00:00:00+00:00")
    assert httpx.get(base + "/status/perlmutter", verify=False).json()["status"] == "degraded"
    every = httpx.get(base + "/status/outages/planned", verify=False).json()
    assert all(isinstance(row, list) for row in every)
    assert [outage["status"] for row in every for outage in row] == ["Planned"]
    (outage,) = httpx.get(base + "/status/outages/planned/perlmutter", verify=False).json()
    assert outage["start_at"] == "2027-01-15T08:00:00+00:00"
    facility.admin("POST", "/_status", status="active")
    facility.admin("DELETE", "/_outages")
    assert httpx.get(base + "/status/outages/perlmutter", verify=False).json() == []
    assert httpx.get(base + "/status/nowhere", verify=False).status_code == 404


def test_account_tells_user_projects_and_clients(client: httpx.Client, facility: Facility) -> None:
    """The account's answers carry what a CE watches: user, project, and when the client expires."""
    assert client.get("/account/").json()["name"] == facility.ready["user"]
    assert client.get("/account/projects").json()[0]["repo_name"] == facility.ready["account"]
    assert client.get("/account/clients").json()[0]["clientId"] == facility.ready["client_id"]


def test_array_goes_from_pending_to_ended(client: httpx.Client, facility: Facility) -> None:
    """A pending array is one row; each task runs, ends with its own code, and is in sacct and in the ledger."""
    text = script(
        "sleep 3", "exit $((SLURM_ARRAY_TASK_ID * 85))",
        options=["-J nacre-array", "--comment=nacre:name=nacre-array,replaces=-", "--array=0-5%2"],
    )  # fmt: skip
    job_id = submit(client, text)["jobid"]
    assert isinstance(job_id, str)
    first = eventually(lambda: jobs(client, f"jobid={job_id},1000000"))
    # Its first two tasks may have started before the listing.
    [pending] = [row for row in first if row["st"] == "PD"]
    assert (pending["array_job_id"], pending["array_task_id"]) in {(job_id, "0-5%2"), (job_id, "2-5%2")}
    running = eventually(lambda: [row for row in jobs(client, f"user={facility.ready['user']}") if row["st"] == "R"])
    assert {row["comment"] for row in running} == {"nacre:name=nacre-array,replaces=-"}
    assert running[0]["array_task_id"] in ("0", "1")
    assert running[0]["nodelist"].startswith("nid")
    eventually(lambda: not jobs(client, "name=nacre-array"), timeout_s=60)
    ended = eventually(
        lambda: rows if len(rows := accounted(client, "nacre-array", "COMPLETED", "FAILED")) == 6 else None
    )
    # sacct takes 128 from an exit code of 128 and above: 170 is shown as 42.
    codes = {row["jobid"]: row["exitcode"] for row in ended}
    assert codes == {f"{job_id}_{index}": f"{index * 85 % 256 % 128}:0" for index in range(6)}
    assert {row["comment"] for row in ended} == {"nacre:name=nacre-array,replaces=-"}
    entries = eventually(
        lambda: found if all((found := ledger_of(facility, "nacre-array"))[i]["ended_at"] for i in range(6)) else None
    )
    assert [entry["index"] for entry in entries] == list(range(6))
    assert [entry["void"] for entry in entries] == [False, True, False, False, False, False]
    assert all(entry["submitted_at"] - 2 < entry["started_at"] <= entry["ended_at"] for entry in entries)


def accounted(client: httpx.Client, name: str, *states: str) -> list[dict[str, str]]:
    """sacct's rows of whole batch jobs by state."""
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 600))
    rows = jobs(client, f"name={name}", f"starttime={since}", sacct=True)
    return [row for row in rows if "." not in row["jobid"] and row["state"].split()[0] in states]


def test_rows_have_every_column_of_the_real_ones(client: httpx.Client) -> None:
    """squeue rows are `%all` and sacct rows `ALL` of Slurm 22.05: the same columns, and no others."""
    submit(client, script("sleep 2", options=["-J nacre-columns"]))
    row = eventually(lambda: jobs(client, "name=nacre-columns"))[0]
    assert set(row) == {header.lower() for header in SQUEUE_HEADERS.values()}
    record = eventually(lambda: accounted(client, "nacre-columns", "PENDING", "RUNNING", "COMPLETED"))[0]
    assert list(record) == [name.lower() for name in SACCT_COLUMNS]


def test_refusals_are_slurms_own_words(client: httpx.Client) -> None:
    """A refused submission is a completed task whose result says error with sbatch's text, and leaves no job."""
    assert submit(client, script("true", options=["-q debug", "--array=0-5"])) == {
        "status": "error",
        "jobid": None,
        "error": "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
        "(job submit limit, user's size and/or time limits)",
    }
    texts = {
        "-q nosuch": "Invalid qos specification",
        "-A nosuch": "Invalid account or account/partition combination specified",
        "-C gpu": "Invalid feature specification",
        "--array=0-5000": "Invalid job array specification",
    }
    for option, text in texts.items():
        said = submit(client, script("true", options=[option]))
        assert said["error"] == f"sbatch: error: Batch job submission failed: {text}"
    assert "This does not look like a batch script" in submit(client, "sleep 1\n")["error"]
    assert jobs(client) == []


def test_cancel_ends_running_and_pending_tasks(client: httpx.Client, facility: Facility) -> None:
    """DELETE cancels one task or a whole array, running or pending; sacct says who."""
    options = ["-J nacre-cancel", "--array=0-9"]
    job_id = submit(client, script("sleep 600", options=options))["jobid"]
    eventually(lambda: len([row for row in jobs(client) if row["st"] == "R"]) == 4)
    for target in (f"{job_id}_0", f"{job_id}_9"):
        begun = client.delete(f"{JOBS}/{target}").json()
        assert begun["status"] == "OK"
        assert result_of(client, begun["task_id"])["status"] == "ok"
    eventually(lambda: {row["array_task_id"] for row in jobs(client) if row["st"] == "PD"} == {"5-8"})
    client.delete(f"{JOBS}/{job_id}")
    eventually(lambda: not jobs(client))
    ended = eventually(lambda: accounted(client, "nacre-cancel", "CANCELLED"))
    assert all(row["state"].startswith("CANCELLED by ") for row in ended)
    eventually(lambda: {row["state"] for row in ledger_of(facility, "nacre-cancel")} == {"CANCELLED"})
    entries = ledger_of(facility, "nacre-cancel")
    assert len(entries) == 10
    assert entries[0]["started_at"] is not None
    assert entries[9]["started_at"] is None


def test_listing_of_one_job_follows_squeue(client: httpx.Client) -> None:
    """One unknown id is status ERROR with squeue's text; one unknown id among others is skipped in silence."""
    answer = client.get(f"{JOBS}/1000000", params={"cached": False}).json()
    assert answer["status"] == "ERROR"
    assert answer["output"] == []
    assert "Invalid job id specified" in answer["error"]
    assert jobs(client, "jobid=1000000,1000001") == []
    assert client.get(JOBS, params={"kwargs": "uid=0;reboot"}).json()["status"] == "ERROR"


def test_index_and_limit_cut_the_listing(client: httpx.Client) -> None:
    """`index` skips rows and `limit` bounds them."""
    for number in range(3):
        submit(client, script("sleep 60", options=[f"-J nacre-page-{number}", "--hold"]))
    whole = [row["name"] for row in jobs(client)]
    assert len(whole) == 3
    assert [row["name"] for row in jobs(client, index=1, limit=1)] == whole[1:2]


def test_job_sees_its_own_slurm(client: httpx.Client, tmp_path: Path) -> None:
    """A batch job knows its ids and asks squeue and scontrol about itself; its output is where it said."""
    output = tmp_path / "job-%A-%a.txt"
    submit(
        client,
        script(
            'echo "$SLURM_JOB_NAME $SLURM_ARRAY_TASK_ID $SLURMD_NODENAME"', "squeue -h -j $SLURM_JOB_ID -o %V",
            "scontrol show job $SLURM_JOB_ID | grep -o 'SubmitTime=[^ ]*'",
            options=["-J nacre-self", "--array=3", f"-o {output}"],
        ),
    )  # fmt: skip
    ended = eventually(lambda: accounted(client, "nacre-self", "COMPLETED", "FAILED"))[0]
    said = next(tmp_path.glob("job-*-3.txt")).read_text().split("\n")
    assert said[0] == f"nacre-self 3 {ended['nodelist']}"
    assert said[1] == ended["submit"]
    assert said[2] == f"SubmitTime={ended['submit']}"


def test_command_runs_as_a_login_shell(client: httpx.Client) -> None:
    """A command's output comes back in the task; a failing one says error and its exit code."""
    begun = client.post("/utilities/command/perlmutter", data={"executable": "bash -lc 'squeue -h | wc -l'"}).json()
    said = result_of(client, begun["task_id"])
    assert (said["status"], said["output"].strip()) == ("ok", "0")
    begun = client.post("/utilities/command/perlmutter", data={"executable": "echo no >&2; exit 3"}).json()
    said = result_of(client, begun["task_id"])
    assert (said["status"], said["error"].strip(), said["exit_code"]) == ("error", "no", 3)


def test_script_by_path_takes_arguments(client: httpx.Client, tmp_path: Path) -> None:
    """isPath=true submits a file with its arguments; a file that is not there is sbatch's refusal."""
    path = tmp_path / "by-path.sh"
    path.write_text(script(f'echo "$1" > {tmp_path}/said', options=["-o /dev/null"]))
    submit(client, str(path), isPath="true", args=["hello"])
    eventually(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text() == "hello\n")
    refused = submit(client, "/nowhere/x.sh", isPath="true")
    assert refused["error"] == "sbatch: error: Unable to open file /nowhere/x.sh"


def test_twenty_submissions_at_once(client: httpx.Client, facility: Facility) -> None:
    """Concurrent submissions each get an id of their own."""
    text = script("true", options=["-J nacre-many", "-o /dev/null"])
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda _: submit(client, text), range(20)))
    assert len({one["jobid"] for one in said}) == 20
    assert len(ledger_of(facility, "nacre-many")) == 20


def test_faults_happen_exactly_as_often_as_asked(client: httpx.Client, facility: Facility) -> None:
    """A status fault hits the next two listings and no third; the log says which requests met it."""
    facility.admin("POST", "/_faults", kind="status", path="/compute/jobs/*", method="GET", count=2, code=503)
    before = len(facility.admin("GET", "/_log"))
    assert [client.get(JOBS).status_code for _ in range(3)] == [503, 503, 200]
    seen = facility.admin("GET", "/_log")[before:]
    assert [(row["path"], row["status"], row["fault"]) for row in seen] == [
        (JOBS, 503, "status"),
        (JOBS, 503, "status"),
        (JOBS, 200, None),
    ]
    facility.admin("POST", "/_faults", kind="error_200", path="/compute/jobs/*", error="slurm is away")
    assert client.get(JOBS).json()["status"] == "ERROR"


@pytest.mark.parametrize("kind", ["close_after", "late_504", "vanished_task"])
def test_lost_answers_still_submit(client: httpx.Client, facility: Facility, kind: str) -> None:
    """After a lost answer the job exists once, although the client cannot know its id."""
    facility.admin("POST", "/_faults", kind=kind, path="/compute/jobs/*", method="POST", delay_s=0.2)
    form = {"job": script("sleep 1", options=[f"-J nacre-{kind.replace('_', '-')}"]), "isPath": "false"}
    if kind == "close_after":
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(JOBS, data=form)
    elif kind == "late_504":
        assert client.post(JOBS, data=form).status_code == 504
    else:
        assert client.get(f"/tasks/{client.post(JOBS, data=form).json()['task_id']}").status_code == 404
    name = f"nacre-{kind.replace('_', '-')}"
    assert len(eventually(lambda: ledger_of(facility, name))) == 1
    assert eventually(lambda: accounted(client, name, "PENDING", "RUNNING", "COMPLETED"))


def test_bad_requests_are_answered_as_the_real_ones(client: httpx.Client, facility: Facility) -> None:
    """Missing fields and unknown machines are 422 with details; unknown tasks and paths 404."""
    assert client.post(JOBS, data={"job": "x"}).json()["detail"][0]["loc"] == ["body", "isPath"]
    assert client.get("/compute/jobs/cori").status_code == 422
    assert client.get("/tasks/1000000").status_code == 404
    assert client.get("/nothing").status_code == 404
    wrong = httpx.post(facility.ready["admin_url"] + "/_faults", json={"kind": "nonsense"}, verify=False)
    assert wrong.status_code == 400
