"""The tracker's observer against a Slurm that lists as the test says, through the real client and the HTTP seam."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.events.messages import JobAgent, Submission
from libs.slurm.access import ApiClientKey
from libs.slurm.superfacility import Endpoint, connected
from services.status_tracker.observe import HALVED_AT_MOST, Observation, Observer, Unknown
from services.status_tracker.rules import lifecycle
from services.status_tracker.settings import Watch, pace
from tests.unit.slurm import golden
from tests.unit.status_tracker.made import NAME, record, submission

SQUEUE_ROW = next(row for row in golden.rows("squeue-live.txt") if row["st"] == "R")
SACCT_ROW = next(row for row in golden.rows("sacct-day.txt") if row["jobid"] == "1_0")
MANY = range(10)
ROWS_LIMIT = 500


@dataclass
class Slurm:
    """squeue's and sacct's rows. `hidden` tasks are missing from listings that are not asked for by name."""

    live: dict[int, str] = field(default_factory=dict)
    over: dict[int, str] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    sacct_fails: bool = False
    names_fail: bool = False
    more_live: list[dict[str, str]] = field(default_factory=list)
    more_over: list[dict[str, str]] = field(default_factory=list)
    rows_at_most: int = 20_000
    asked: list[str] = field(default_factory=list)
    kwargs: list[list[str]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 600})
        query = parse_qs(request.url.query.decode())
        self.kwargs.append(query["kwargs"])
        by_name = any(one.startswith("name=") for one in query["kwargs"])
        if query["sacct"] == ["true"]:
            self.asked.append("sacct")
            if self.sacct_fails:
                return httpx.Response(503)
            rows = [self._sacct(index, state) for index, state in self.over.items()] + self.more_over
        else:
            self.asked.append("squeue by name" if by_name else "squeue")
            if by_name and self.names_fail:
                return httpx.Response(503)
            shown = self.live if by_name else {k: v for k, v in self.live.items() if k not in self.hidden}
            rows = [self._squeue(index, state) for index, state in shown.items()] + self.more_live
        rows = rows[: self.rows_at_most]
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
        rows_limit=ROWS_LIMIT,
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


async def test_a_task_cancelled_out_of_its_block(observer: Observer, slurm: Slurm) -> None:
    """Neither squeue nor sacct has a row of it, but its array's: it ended before it started, and is not forgotten."""
    slurm.live = dict.fromkeys(range(9), "PENDING")
    waited = {
        agent: msgspec.structs.replace(one, slurm_state="PENDING", state="queued") for agent, one in running().items()
    }
    observed = await seen(observer, waited)
    assert [one.index for one in observed.missing] == [9]
    lost = lifecycle.missing(waited[f"{NAME}.9"], observed.listed_at - timedelta(seconds=1))
    slurm.kwargs.clear()
    observed = await seen(observer, waited | {lost.agent: lost})
    assert observed.missing == []
    over = lifecycle.seen(lost, observed.ended[lost.agent], machine="perlmutter", listed_at=observed.listed_at)
    assert (over.state, over.ending, over.verdict) == ("ended", "cancelled", "cancelled before it started")
    assert any("jobid=7" in one for one in slurm.kwargs[1])


async def test_too_many_to_ask_about_at_once(observer: Observer, slurm: Slurm) -> None:
    """Requests stay few whatever left: those that are asked about are judged, the others wait as they are."""
    known = {
        f"{NAME}.{index}": record("running", agent=f"{NAME}.{index}", index=index, job_id=str(index))
        for index in range(1000)
    }
    slurm.over = {index: "COMPLETED" for index in range(400)}
    observed = await seen(observer, known)
    assert len(slurm.asked) - slurm.asked.count("squeue by name") <= 6
    assert len(observed.ended) == 400
    assert len(observed.missing) == 200


async def test_what_ended_while_nothing_was_on_record(observer: Observer, slurm: Slurm) -> None:
    """sacct alone tells, as far back as it gives in one answer; when it does not answer, it is asked again later."""
    slurm.over = {0: "COMPLETED", 1: "RUNNING", 2: "FAILED"}
    past = await observer.past(datetime.now(UTC))
    assert past is not None and sorted(past) == [f"{NAME}.0", f"{NAME}.2"]
    slurm.over = {index: "COMPLETED" for index in range(2 * ROWS_LIMIT)}
    slurm.rows_at_most, slurm.asked = ROWS_LIMIT, []
    past = await observer.past(datetime.now(UTC))
    assert past is not None and len(past) == ROWS_LIMIT
    assert len(slurm.asked) == HALVED_AT_MOST
    slurm.sacct_fails = True
    assert await observer.past(datetime.now(UTC)) is None


# Rows as a facility may give them on a bad day.
STRANGE_TEXTS = [
    "ReqNodeNotAvail, Reserved for maintenance",
    'a "quoted" reason',
    "späte Gründe",
    "a|b",
    "\x00\x1b[31m",
]


@pytest.mark.parametrize("text", STRANGE_TEXTS)
async def test_reasons_of_any_kind(observer: Observer, slurm: Slurm, text: str) -> None:
    """Blanks, commas, quotes, bars, other scripts and control characters in a reason change nothing else."""
    slurm.more_live = [slurm._squeue(0, "PENDING") | {"reason": text}]
    observed = await seen(observer, {})
    assert observed.view.ours[f"{NAME}.0"].job.reason == text
    assert observed.view.by_qos == {"regular": 1}


async def test_states_never_heard_of(observer: Observer, slurm: Slurm) -> None:
    """A new state of Slurm's keeps the agent where it was, in squeue and in sacct."""
    slurm.live = dict.fromkeys(range(8), "RUNNING") | {8: "HIBERNATING"}
    slurm.over = {9: "TELEPORTED"}
    observed = await seen(observer, running())
    assert [one.index for one in observed.missing] == [9]
    kept = lifecycle.seen(
        running()[f"{NAME}.8"], observed.view.ours[f"{NAME}.8"], machine="perlmutter", listed_at=observed.listed_at
    )
    assert (kept.state, kept.slurm_state) == ("running", "RUNNING")


@pytest.mark.parametrize(
    "cut", [{"state": ""}, {"array_job_id": "7_"}, {"submit_time": "2026-11-2"}, {"state": "2026"}]
)
async def test_rows_cut_short(observer: Observer, slurm: Slurm, cut: dict[str, str]) -> None:
    """A row that slipped or was cut makes the listing unknown, with its reason; nobody moves."""
    slurm.live = dict.fromkeys(MANY, "RUNNING")
    slurm.more_live = [slurm._squeue(77, "RUNNING") | cut]
    observed = await observer.observe(running(), {})
    assert isinstance(observed, Unknown) and "not complete" in observed.why


async def test_rows_without_columns(observer: Observer, slurm: Slurm) -> None:
    """Missing columns, values that are no text, an empty row: unknown, never an exception."""
    for row in ({}, {"jobid": "7"}, dict.fromkeys(SQUEUE_ROW, None), dict.fromkeys(SQUEUE_ROW, 5)):
        slurm.more_live = [row]  # type: ignore[list-item]
        assert isinstance(await observer.observe({}, {}), Unknown)


async def test_bad_rows_of_sacct_end_nobody(observer: Observer, slurm: Slurm) -> None:
    """What sacct says readably counts, what it says unreadably does not, and nobody is forgotten on it."""
    slurm.live = dict.fromkeys(range(8), "RUNNING")
    slurm.over = {8: "CANCELLED by 1001"}
    slurm.more_over = [slurm._sacct(9, "COMPLETED") | {"exitcode": "0:"}, {"jobid": "7_9.batch"}, {}]
    observed = await seen(observer, running())
    assert [one.index for one in observed.missing] == [9]
    over = lifecycle.seen(
        running()[f"{NAME}.8"], observed.ended[f"{NAME}.8"], machine="perlmutter", listed_at=observed.listed_at
    )
    assert over.ending == "cancelled" and "by user id 1001" in over.verdict
    long_missing = await seen(observer, {**running(range(8)), **_long_missing(9)})
    assert long_missing.forgotten == []


async def test_job_ids_used_again(observer: Observer, slurm: Slurm) -> None:
    """After a crash of slurmctld another job bears the id: it is another agent, and the old one is not it."""
    slurm.live = dict.fromkeys(range(1, 10), "RUNNING")
    other = "nacre-cpu-20261123t040000-d4e5f6"
    slurm.more_live = [slurm._squeue(0, "RUNNING") | {"name": other, "submit_time": "2026-11-23T04:00:00"}]
    slurm.more_over = [slurm._sacct(0, "COMPLETED") | {"jobname": other, "submit": "2026-11-23T04:00:00"}]
    observed = await seen(observer, running())
    assert [one.index for one in observed.missing] == [0]
    assert observed.view.ours[f"{other}.0"].job.array_job_id == 7


async def test_another_users_jobs(observer: Observer, slurm: Slurm) -> None:
    """They are nobody: not ours by their name, not strangers of our user either."""
    slurm.more_live = [slurm._squeue(0, "RUNNING") | {"user": "mallory"}]
    observed = await seen(observer, {})
    assert (observed.view.ours, observed.view.strangers, observed.view.by_qos) == ({}, 0, {})


async def test_duplicate_rows(observer: Observer, slurm: Slurm) -> None:
    """The same row twice is one agent, and that two live rows claim it is told."""
    slurm.live = {0: "RUNNING"}
    slurm.more_live = [slurm._squeue(0, "RUNNING")]
    slurm.over, slurm.more_over = {1: "COMPLETED"}, [slurm._sacct(1, "COMPLETED")]
    observed = await seen(observer, running({0, 1}))
    assert list(observed.view.ours) == [f"{NAME}.0"]
    assert observed.view.doubles == (f"{NAME}.0",)
    assert list(observed.ended) == [f"{NAME}.1"]


async def test_who_is_listed_alive_is_alive(observer: Observer, slurm: Slurm) -> None:
    """An end that sacct claims of somebody whom squeue shows waits for the next listing."""
    slurm.live, slurm.over = dict.fromkeys(range(9), "RUNNING"), {8: "CANCELLED", 9: "CANCELLED"}
    observed = await seen(observer, running())
    assert list(observed.ended) == [f"{NAME}.9"]


async def test_without_sacct_nobody_was_cancelled_while_waiting(observer: Observer, slurm: Slurm) -> None:
    """That a task is in no listing any more is its end only when sacct has answered and knows nothing of it."""
    slurm.live, slurm.sacct_fails = dict.fromkeys(range(9), "PENDING"), True
    waited = {
        agent: msgspec.structs.replace(one, slurm_state="PENDING", state="queued") for agent, one in running().items()
    }
    gone = f"{NAME}.9"
    waited[gone] = lifecycle.missing(waited[gone], datetime.now(UTC) - timedelta(seconds=60))
    observed = await seen(observer, waited)
    assert observed.ended == {} and [one.agent for one in observed.missing] == [gone]


async def test_sacct_away_for_hours(observer: Observer, slurm: Slurm) -> None:
    """Those that left are unaccounted and counted as active, cycle after cycle; the first answer settles them all."""
    slurm.sacct_fails, slurm.live = True, dict.fromkeys(range(9), "RUNNING")
    known = running()
    for _ in range(5):
        observed = await seen(observer, known)
        assert (observed.ended, observed.forgotten) == ({}, [])
        known |= {one.agent: lifecycle.missing(one, datetime.now(UTC) - timedelta(hours=5)) for one in observed.missing}
    slurm.sacct_fails, slurm.over = False, {9: "TIMEOUT"}
    observed = await seen(observer, known)
    assert list(observed.ended) == [f"{NAME}.9"]
