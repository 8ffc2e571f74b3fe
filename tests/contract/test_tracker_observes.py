"""The tracker's observer against a Slurm that lists as the test says, through the real client and the HTTP seam."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.events.messages import JobAgent, Submission
from libs.slurm.access import ApiClientKey
from libs.slurm.superfacility import Endpoint, connected
from services.status_tracker.observe import Observation, Observer, Unknown
from services.status_tracker.rules import lifecycle
from services.status_tracker.settings import Watch, pace
from tests.unit.slurm import golden
from tests.unit.status_tracker.made import NAME, record, submission

SQUEUE_ROW = next(row for row in golden.rows("squeue-live.txt") if row["st"] == "R")
SACCT_ROW = next(row for row in golden.rows("sacct-day.txt") if row["jobid"] == "1_0")
MANY = range(10)


@dataclass
class Slurm:
    """squeue's and sacct's rows. `hidden` tasks are missing from listings that are not asked for by name."""

    live: dict[int, str] = field(default_factory=dict)
    over: dict[int, str] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    sacct_fails: bool = False
    names_fail: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 600})
        query = parse_qs(request.url.query.decode())
        by_name = any(one.startswith("name=") for one in query["kwargs"])
        if query["sacct"] == ["true"]:
            self.asked.append("sacct")
            if self.sacct_fails:
                return httpx.Response(503)
            rows = [self._sacct(index, state) for index, state in self.over.items()]
        else:
            self.asked.append("squeue by name" if by_name else "squeue")
            if by_name and self.names_fail:
                return httpx.Response(503)
            shown = self.live if by_name else {k: v for k, v in self.live.items() if k not in self.hidden}
            rows = [self._squeue(index, state) for index, state in shown.items()]
        return httpx.Response(200, content=json.dumps({"status": "OK", "output": rows, "error": None}))

    def _squeue(self, index: int, state: str) -> dict[str, str]:
        about = {"name": NAME, "array_job_id": "7", "array_task_id": str(index), "state": state, "user": "alicepro"}
        return SQUEUE_ROW | about | {"submit_time": "2026-11-23T03:00:00"}

    def _sacct(self, index: int, state: str) -> dict[str, str]:
        about = {"jobname": NAME, "jobid": f"7_{index}", "state": state, "user": "alicepro", "exitcode": "0:0"}
        return SACCT_ROW | about | {"submit": "2026-11-23T03:00:00"}


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
async def observer(slurm: Slurm, tmp_path: Path) -> AsyncIterator[Observer]:
    async for one in _observer(slurm, tmp_path, listing_lag_s=0.0):
        yield one


@pytest.fixture
async def patient(slurm: Slurm, tmp_path: Path) -> AsyncIterator[Observer]:
    """An observer that waits for the listing lag before it asks by name."""
    async for one in _observer(slurm, tmp_path, listing_lag_s=3600.0):
        yield one


async def _observer(slurm: Slurm, folder: Path, *, listing_lag_s: float) -> AsyncIterator[Observer]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    (folder / "id").write_text("abcdefghijklm")
    (folder / "key").write_bytes(pem)
    endpoint = Endpoint(
        machine="perlmutter",
        api_url="https://api.test",
        token_url="https://api.test/token",
        key=ApiClientKey(client_id_file=folder / "id", client_key_file=folder / "key"),
        user_agent="nacre/0 (tests)",
        rate_per_s=1000.0,
    )
    watch = Watch(
        machine="perlmutter",
        ces=frozenset({"cpu"}),
        user="alicepro",
        pace=pace(1, 1, 300),
        listing_floor_s=1,
        facility_interval_s=1,
        settle_time_s=600,
        listing_lag_s=listing_lag_s,
        missing_share=0.2,
    )
    async with connected(endpoint, httpx.MockTransport(slurm)) as client:
        yield Observer(watch, client)


def running(indices: range | set[int] = MANY) -> dict[str, JobAgent]:
    return {
        f"{NAME}.{index}": record("running", agent=f"{NAME}.{index}", index=index, job_id=f"7_{index}")
        for index in indices
    }


async def seen(
    observer: Observer, known: dict[str, JobAgent], submissions: dict[str, Submission] | None = None
) -> Observation:
    observed = await observer.observe(known, submissions or {})
    assert isinstance(observed, Observation), observed
    return observed


async def test_a_quiet_cycle_is_one_request(observer: Observer, slurm: Slurm) -> None:
    """When everybody is where they were, sacct is not asked."""
    slurm.live = dict.fromkeys(MANY, "RUNNING")
    observed = await seen(observer, running())
    assert (slurm.asked, observed.missing, observed.ended) == (["squeue"], [], {})


async def test_those_that_left_are_asked_for_once_in_bulk(observer: Observer, slurm: Slurm) -> None:
    """However many left the listing, sacct is asked once, and what it shows ended is not missing."""
    slurm.over = dict.fromkeys(MANY, "COMPLETED")
    observed = await seen(observer, running())
    assert (slurm.asked, len(observed.ended), observed.missing) == (["squeue", "sacct"], 10, [])


async def test_a_few_missing_are_unaccounted(observer: Observer, slurm: Slurm) -> None:
    """Within the share the listing is complete; live sacct rows do not bring the missing back."""
    slurm.live = dict.fromkeys(range(8), "RUNNING")
    slurm.over = {8: "RUNNING", 9: "PENDING"}
    observed = await seen(observer, running())
    assert [one.index for one in observed.missing] == [8, 9]


async def test_too_many_missing_at_once_is_not_complete(patient: Observer, slurm: Slurm) -> None:
    """Above the share the counts are unknown, cycle after cycle, until the listing lag is over."""
    slurm.live = dict.fromkeys(range(7), "RUNNING")
    for _ in range(3):
        observed = await patient.observe(running(), {})
        assert isinstance(observed, Unknown)
        assert "3 of 10 active agents are missing at once" in observed.why
    assert "squeue by name" not in slurm.asked


async def test_when_they_stay_missing_their_names_decide(observer: Observer, slurm: Slurm) -> None:
    """A bulk listing that lacks half of them is mended by the answer for their names; the rest is missing indeed."""
    slurm.live = dict.fromkeys(range(8), "RUNNING")
    slurm.hidden = set(range(4, 8))
    observed = await seen(observer, running())
    assert [one.index for one in observed.missing] == [8, 9]
    assert {f"{NAME}.{index}" for index in range(8)} <= set(observed.view.ours)


async def test_names_that_are_not_answered_decide_nothing(observer: Observer, slurm: Slurm) -> None:
    """Without an answer by name the counts stay unknown."""
    slurm.names_fail = True
    observed = await observer.observe(running(), {})
    assert isinstance(observed, Unknown)
    assert "asked by name" in observed.why


async def test_judged_once_is_judged(observer: Observer, slurm: Slurm) -> None:
    """Agents that were found missing before do not make the next listing incomplete."""
    slurm.live = {0: "RUNNING"}
    known = running()
    observed = await seen(observer, known)
    known |= {one.agent: lifecycle.missing(one, observed.listed_at) for one in observed.missing}
    slurm.asked.clear()
    observed = await seen(observer, known)
    assert (len(observed.missing), slurm.asked) == (9, ["squeue", "sacct"])


def _long_missing(index: int = 0) -> dict[str, JobAgent]:
    long_ago = datetime.now(UTC) - timedelta(seconds=700)
    known = running({index})
    return {agent: lifecycle.missing(one, long_ago) for agent, one in known.items()}


async def test_forgotten_after_the_settle_time(observer: Observer, slurm: Slurm) -> None:
    """Missing for longer than the settle time, not in sacct, not under its name: forgotten."""
    observed = await seen(observer, _long_missing())
    assert [one.index for one in observed.forgotten] == [0]
    assert slurm.asked == ["squeue", "sacct", "squeue by name"]


async def test_its_own_name_saves_an_agent(observer: Observer, slurm: Slurm) -> None:
    """An agent that the question for its name shows is there, and neither missing nor forgotten."""
    slurm.live, slurm.hidden = {0: "RUNNING"}, {0}
    observed = await seen(observer, _long_missing())
    assert (observed.forgotten, observed.missing) == ([], [])
    assert f"{NAME}.0" in observed.view.ours


@pytest.mark.parametrize("fails", ["sacct_fails", "names_fail"])
async def test_nobody_is_forgotten_without_every_answer(observer: Observer, slurm: Slurm, fails: str) -> None:
    """When sacct or the question by name fails, the agent stays unaccounted."""
    setattr(slurm, fails, True)
    observed = await seen(observer, _long_missing())
    assert (observed.forgotten, len(observed.missing)) == ([], 1)


async def test_a_doubtful_submission_needs_sacct(observer: Observer, slurm: Slurm) -> None:
    """When an unclear submission would be given up and sacct fails, its CE's counts are in doubt; else they are not."""
    doubtful = {NAME: submission("unclear", intended_at=datetime.now(UTC) - timedelta(hours=1))}
    observed = await seen(observer, {}, doubtful)
    assert observed.in_doubt == {}
    slurm.sacct_fails = True
    observed = await seen(observer, {}, doubtful)
    assert "1 unclear submissions" in observed.in_doubt["cpu"]


async def test_accepted_but_never_listed(observer: Observer, slurm: Slurm) -> None:
    """What Slurm took longer ago than the lag and nothing shows is reported, unless sacct did not answer."""
    taken = {NAME: submission("accepted", changed_at=datetime.now(UTC) - timedelta(hours=1))}
    slurm.over = {1: "FAILED"}
    observed = await seen(observer, {}, taken)
    assert [(one.name, key) for one, key in observed.never_seen] == [(NAME, f"{NAME}.0")]
    assert set(observed.ended) == {f"{NAME}.0", f"{NAME}.1"} - {f"{NAME}.0"}
    slurm.sacct_fails = True
    assert (await seen(observer, {}, taken)).never_seen == []


async def test_squeue_that_shows_ended_jobs(observer: Observer, slurm: Slurm) -> None:
    """A job that squeue itself shows ended is ended, with sacct's exit code where it has one."""
    slurm.live = {0: "COMPLETED", 1: "COMPLETED"}
    slurm.over = {0: "COMPLETED"}
    observed = await seen(observer, running({0, 1}))
    assert observed.missing == []
    assert {agent: one.job.exit_code for agent, one in observed.ended.items()} == {f"{NAME}.0": 0, f"{NAME}.1": None}


async def test_nothing_of_the_api_escapes(observer: Observer, slurm: Slurm) -> None:
    """An incomplete listing is unknown with its reason."""
    slurm.live = {0: "RUNNING"}
    slurm._squeue = lambda index, state: {"jobid": "7"}  # type: ignore[method-assign]
    observed = await observer.observe({}, {})
    assert isinstance(observed, Unknown)
    assert "not complete" in observed.why
