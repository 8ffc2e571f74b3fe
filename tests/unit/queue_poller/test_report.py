import ssl
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from libs.alice.answers import FreeSlots, Pong, WaitingJobs
from libs.alice.identity import Loaded
from libs.alice.peer import Peer
from libs.events.messages import SiteConfigObserved
from libs.runtime.errors import Misconfigured
from libs.runtime.site import Agent, Limits
from libs.runtime.site.overlay import effective
from services.queue_poller import report
from services.queue_poller.once import named
from tests.unit.slurm_submitter.sites import a_ce

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LOADED = Loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), (b"der",), "/C=ch/CN=ce", NOW + timedelta(days=30, hours=12))
PEER = Peer("192.0.2.1 port 8098", "TLSv1.3", "/CN=central", "/CN=CA", NOW - timedelta(days=1))


def test_who_we_are_is_told_as_we_say_and_as_answered() -> None:
    """Another account than ours and missing roles are visible."""
    text = "\n".join(report.ours("vobox", LOADED, Pong({}, "vobox", ("aliprod", "vobox")), now=NOW))
    assert "/C=ch/CN=ce" in text
    assert "aliprod, vobox" in text
    assert "30.5 days left" in text
    assert "answered" not in text
    text = "\n".join(report.ours("vobox", LOADED, Pong({}, "other"), now=NOW))
    assert "vobox (answered: other)" in text
    assert "not answered" in text


def test_who_answers_is_told() -> None:
    """The server's name, its certificate, an expired one in capitals, and the time it took."""
    text = "\n".join(report.theirs("central:8098", Pong({"hostname": "jc1"}), PEER, spent_s=0.0123, now=NOW))
    for words in ("central:8098, says it is jc1", "/CN=central, issued by /CN=CA", "EXPIRED", "TLSv1.3", "12 ms"):
        assert words in text
    text = "\n".join(report.theirs("central:8098", Pong({}), None, spent_s=0.0123, now=NOW))
    assert "says it is" not in text
    assert "no certificate" in text


@pytest.mark.parametrize(
    ("free", "words", "is_failure"),
    [
        (FreeSlots(0, 100, 10), "code 0: open, with limits", False),
        (FreeSlots(-2), "code -2: centrally locked", False),
        (FreeSlots(3), "code 3: no limits", True),
        (FreeSlots(None), "no code: the central services have no database", True),
    ],
)
def test_each_code_has_its_meaning(free: FreeSlots, words: str, is_failure: bool) -> None:
    """Open and locked are states, all else is a failure; limits are shown only when answered."""
    lines = report.free_slots(free, spent_s=0.001)
    assert words in lines[0]
    assert len(lines) == (2 if free.code == 0 else 1)
    assert bool(report.problem(free)) is is_failure


def test_waiting_jobs_are_a_number_or_not_counted() -> None:
    """A count that was not given is never shown as a number."""
    assert "49" in report.waiting_jobs(WaitingJobs(49, 1), spent_s=0.0)[0]
    assert "not counted (code 0)" in report.waiting_jobs(WaitingJobs(None, 0), spent_s=0.0)[0]
    assert "not counted (no code)" in report.waiting_jobs(WaitingJobs(None, None), spent_s=0.0)[0]


def test_shadow_shows_where_its_limits_come_from() -> None:
    """Free slots are told as not asked."""
    text = "\n".join(report.shadow(Limits(shadow_max_jobs=7, shadow_max_queued=3)))
    assert "not asked" in text
    assert "7 active job agents, 3 of them queued (from the site file)" in text
    assert "cpu, shadow" in report.heading("cpu", a_ce(mode="shadow"))[-1]


def test_a_ce_is_named_by_its_short_or_full_name() -> None:
    """Without a name all are meant; a wrong one is told with those there are."""
    ces = {"cpu": a_ce(), "gpu": msgspec.structs.replace(a_ce(), name="ALICE::NERSC::gpu")}
    assert list(named(ces, None)) == ["cpu", "gpu"]
    assert list(named(ces, "gpu")) == list(named(ces, "ALICE::NERSC::gpu")) == ["gpu"]
    with pytest.raises(Misconfigured, match=r"no CE 'tpu'.*cpu \(ALICE::NERSC::cpu\)"):
        named(ces, "tpu")


def test_each_setting_is_told_with_its_origin() -> None:
    """Time to live, cores, partitions and variables as run; what only the broker is told; and what is wrong."""
    ce = a_ce(agent=Agent(command="run", token_file="t", environment={"B": "1"}), cores=4)
    text = "\n".join(report.site_config(effective(ce, None), None))
    for words in ("ttl_s = 82800  (site file)", "cores = 4  (site file)", "partition = none", "environment.B = 1"):
        assert words in text
    said = SiteConfigObserved(
        at=NOW,
        by="once",
        ce="cpu",
        cores=0,
        users=["alidaq"],
        environment={"MAX_RETRIES": "3"},
        origins={
            "cores": "ce_matcharg",
            "users": "ce_cerequirements",
            "environment.MAX_RETRIES": "host_environment",
        },
        problems=["the site entry vanished"],
    )
    text = "\n".join(report.site_config(effective(ce, said), said))
    for words in (
        "cores = 0: a whole node  (ce_matcharg)",
        "environment.MAX_RETRIES = 3  (host_environment)",
        "environment.B = 1  (site file)",
        "users = alidaq  (ce_cerequirements)",
        "problem: the site entry vanished",
    ):
        assert words in text
    assert "12 ms" in report.site_config_read(spent_s=0.012)[0]
