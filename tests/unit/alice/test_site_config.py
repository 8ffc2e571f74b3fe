from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.alice import site_config
from libs.alice.answers import LdapInfo, LdapTree
from libs.alice.site_config import Reading
from libs.events.messages import SiteConfigObserved

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
CE = "ALICE::NERSC::cpu"

SITE = {"accountname": ["NERSC"], "closese": ["ALICE::LBL::EOS"]}
HOST = {"host": ["ce.example.org"], "environment": ["MAX_RETRIES=3", "RESERVED_DISK=2048"]}
ENTRY = {
    "ttl": ["87000"],
    "matcharg": ["CPUCores=8"],
    "environment": ["RESERVED_RAM=4096", "max_retries=5", "SECRET=x"],
    "installationmethod": ["CVMFS"],
    "cerequirements": ['other.user!="alidaq" && other.cpucores>=8'],
}


def reading(**changes: object) -> Reading:
    found: dict[str, object] = {"site": SITE, "host": HOST, "ce": ENTRY, "partitions": ["b", "a"]}
    return Reading(**(found | changes))  # type: ignore[arg-type]


def read(found: Reading, previous: SiteConfigObserved | None = None, at: datetime = NOW) -> SiteConfigObserved:
    return site_config.observed(found, previous, ce="cpu", at=at, by="queue_poller/1")


def test_the_questions_are_those_of_alices_own_ce() -> None:
    """Site, host and CE by name below the site's branch, partitions by the CE's full name; names are escaped."""
    asked = site_config.questions(CE, "ce.example.org")
    assert (asked.ce.filter, asked.ce.base) == ("(&(name=cpu))", "ou=CE,ou=Services,ou=NERSC,ou=Sites,")
    assert (asked.host.filter, asked.host.base) == ("(&(host=ce.example.org))", "ou=Config,ou=NERSC,ou=Sites,")
    assert (asked.site.filter, asked.site.base) == ("(&(ou=NERSC)(objectClass=AliEnSite))", "ou=Sites,")
    assert (asked.partitions.filter, asked.partitions.key) == (f"(&(CEname={CE}))", "name")
    trees = [LdapTree({f"{name}_ttl": ("1",), f"{name}_{name}_x": ("2",)}) for name in ("site", "host", "ce")]
    told = asked.reading(site=trees[0], host=trees[1], ce=trees[2], partitions=LdapInfo(("a",)))
    assert told.host == {"ttl": ("1",), "host_x": ("2",)}
    assert (told.site["ttl"], told.ce["ce_x"], told.partitions) == (("1",), ("2",), ("a",))
    assert site_config.questions("ALICE::X::a)(b*", "h").ce.filter == r"(&(name=a\29\28b\2a))"


def test_everything_that_is_used_is_read_with_its_origin() -> None:
    """Times, cores, partitions, users, storage, and the variables ALICE's CE hands on; the CE's entry is stronger."""
    found = read(reading())
    assert (found.ttl_s, found.cores, found.partitions) == (87000, 8, ["a", "b"])
    assert (found.users, found.no_users, found.required_cpus) == ([], ["alidaq"], ">=8")
    assert found.close_storage == ["ALICE::LBL::EOS"]
    assert found.environment == {
        "MAX_RETRIES": "5",
        "RESERVED_DISK": "2048",
        "RESERVED_RAM": "4096",
        "installationMethod": "CVMFS",
        "cerequirements": 'other.user!="alidaq" && other.cpucores>=8',
        "RequiredCpusCe": ">=8",
        "closeSE": "ALICE::LBL::EOS",
    }
    assert found.origins["environment.MAX_RETRIES"] == "ce_environment"
    assert found.origins["environment.RESERVED_DISK"] == "host_environment"
    assert found.origins["close_storage"] == "site_closese"
    assert (found.problems, found.unknown_because, found.changes) == ([], "", [])
    assert set(found.read_at) == {"site", "host", "ce", "partitions"}
    assert "SECRET" not in str(found)


def test_settings_are_told_as_text() -> None:
    """One text for each setting that ALICE sets, and none for what it does not."""
    told = site_config.settings(read(reading()))
    assert told["partitions"] == "a, b"
    assert told["environment.RESERVED_RAM"] == "4096"
    assert "users" not in told
    assert site_config.settings(read(reading(ce={"ttl": ["1"]}, partitions=[])))["partitions"] == "none"


def test_the_hosts_storage_is_stronger_than_the_sites() -> None:
    """The nearer entry wins."""
    found = read(reading(host={"closese": ["ALICE::CERN::EOS, ALICE::NERSC::EOS"]}))
    assert found.close_storage == ["ALICE::CERN::EOS", "ALICE::NERSC::EOS"]
    assert found.origins["close_storage"] == "host_closese"
    assert site_config.extra_sites(CE, found.close_storage) == ["CERN"]
    assert found.environment["closeSE"] == "ALICE::CERN::EOS,ALICE::NERSC::EOS"


def test_users_that_alone_may_run() -> None:
    """Requirements in several values count together."""
    found = read(reading(ce={"cerequirements": ['other.user == "a"', 'other.user=="b"']}))
    assert (found.users, found.required_cpus) == (["a", "b"], "")
    assert found.environment["cerequirements"] == 'other.user == "a" && other.user=="b"'


@pytest.mark.parametrize("entry", ["site", "host", "ce"])
def test_a_vanished_entry_stays_as_it_was_and_says_so(entry: str) -> None:
    """Every setting keeps its value and origin; the problem says since when; nothing counts as changed."""
    first = read(reading())
    second = read(reading(**{entry: {}}), first, LATER)
    assert site_config.settings(second) == site_config.settings(first)
    assert second.origins == first.origins
    assert second.problems == [f"the {entry} entry vanished; it is kept as read at 2026-11-23 12:00 UTC"]
    assert second.read_at[entry] == NOW
    assert second.changes == []


def test_an_entry_that_was_never_there_is_told() -> None:
    """Nothing is made up for it."""
    found = read(Reading({}, {}, {}, []))
    assert len(found.problems) == 3
    assert all("has no such entry" in problem for problem in found.problems)
    assert (found.origins, found.partitions, found.read_at) == ({}, None, {})


def test_partitions_go_only_while_the_ce_is_found() -> None:
    """No partition beside a good CE entry is a fact; beside a vanished one it is part of the failure."""
    first = read(reading())
    assert read(reading(partitions=[]), first, LATER).partitions == []
    gone = read(reading(ce={}, partitions=[]), first, LATER)
    assert (gone.partitions, gone.read_at["partitions"]) == (["a", "b"], NOW)


def test_a_partition_with_an_impossible_name_is_left_out() -> None:
    """Names are joined with commas, so none may hold one."""
    found = read(reading(partitions=["a", "b,c"]))
    assert found.partitions == ["a"]
    assert found.problems == ["partitions: 'b,c' cannot be used; left out"]


@pytest.mark.parametrize(
    ("entry", "attribute", "values", "words"),
    [
        ("ce", "ttl", ["soon"], "no number of seconds"),
        ("ce", "ttl", ["0"], "no number of seconds"),
        ("ce", "ttl", ["9999999999"], "no number of seconds"),
        ("ce", "ttl", ["1", "2"], "no number of seconds"),
        ("ce", "matcharg", ["CPUCores=many"], "no number of cores"),
        ("ce", "matcharg", ["CPUCores=1", "CPUCores=2"], "no number of cores"),
        ("ce", "environment", ["MAX_RETRIES=often"], "has no number"),
        ("ce", "installationmethod", ["a\nb"], "cannot be printed"),
        ("ce", "cerequirements", ["x" * 2000], "more than 1024 characters"),
        ("host", "environment", ["A=1"] * 65, "has 65 values"),
        ("site", "closese", ["EOS"], "no list of storage elements"),
    ],
)
def test_a_broken_attribute_stays_as_it_was_or_is_left_out(
    entry: str, attribute: str, values: list[str], words: str
) -> None:
    """It is named with what is wrong; the other attributes of the entry are read."""
    good: Mapping[str, Sequence[str]] = {"site": SITE, "host": HOST, "ce": ENTRY}[entry]
    broken = reading(**{entry: {**good, attribute: values}})
    first = read(reading())
    kept = read(broken, first, LATER)
    assert site_config.settings(kept) == site_config.settings(first)
    (problem,) = kept.problems
    assert problem.startswith(f"{entry}_{attribute} ")
    assert words in problem
    assert problem.endswith("it is kept as it was")
    assert kept.read_at[entry] == LATER
    (problem,) = read(broken).problems
    assert problem.endswith("it is left out")


def test_an_attribute_that_is_gone_is_gone_and_what_changed_is_told() -> None:
    """Changes name old and new value with the origin, and are kept until the next ones."""
    first = read(reading())
    entry = {name: values for name, values in ENTRY.items() if name != "matcharg"} | {"ttl": ["3600"]}
    second = read(reading(ce=entry, partitions=["a", "b", "c"]), first, LATER)
    assert second.changes == [
        "cores: 8 -> not set",
        "partitions: a, b -> a, b, c (partitions)",
        "ttl_s: 87000 -> 3600 (ce_ttl)",
    ]
    assert second.changed_at == LATER
    third = read(reading(ce=entry, partitions=["a", "b", "c"]), second, LATER + timedelta(minutes=5))
    assert (third.changes, third.changed_at) == (second.changes, LATER)
    assert "cores: not set -> 8 (ce_matcharg)" in read(reading(), third).changes


def test_match_arguments_without_cores_say_nothing() -> None:
    """Other arguments are none of ours."""
    found = read(reading(ce={"matcharg": ["Memory=4"]}))
    assert (found.cores, "cores" in found.origins) == (None, False)


def test_a_reading_that_failed_keeps_everything() -> None:
    """The reason is told, with all that was known; without anything known there is only the reason."""
    first = read(reading())
    failed = site_config.not_observed("away", first, ce="cpu", at=LATER, by="queue_poller/2")
    assert (failed.unknown_because, failed.at, failed.by) == ("away", LATER, "queue_poller/2")
    assert site_config.settings(failed) == site_config.settings(first)
    assert read(reading(), failed).unknown_because == ""
    alone = site_config.not_observed("away", None, ce="cpu", at=LATER, by="queue_poller/2")
    assert (alone.unknown_because, alone.origins) == ("away", {})


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["1", "CPUCores=8", "MAX_RETRIES=2", "a=b", 'other.user=="x"', "A::B::C"]
)
NAMES = st.sampled_from(["ttl", "matcharg", "environment", "cerequirements", "installationmethod", "closese", "other"])
ENTRIES = st.dictionaries(NAMES, st.lists(TEXTS, min_size=1, max_size=3), max_size=7)
READINGS = st.builds(Reading, ENTRIES, ENTRIES, ENTRIES, st.lists(st.text(min_size=1, max_size=5), max_size=3))


@given(st.lists(READINGS, min_size=1, max_size=4))
def test_whatever_is_read_comes_to_good_settings(readings: list[Reading]) -> None:
    """Any answers give settings within bounds, each with an origin, and the same again give no change."""
    found = None
    for one in readings:
        found = read(one, found)
    assert found is not None
    assert found.ttl_s is None or 0 < found.ttl_s < 1 << 31
    assert found.cores is None or 0 <= found.cores < 1 << 31
    assert set(site_config.settings(found)) == set(found.origins)
    assert {f"environment.{name}" for name in found.environment} <= set(found.origins)
    assert all(text.isprintable() for text in found.environment.values())
    again = read(readings[-1], found)
    assert site_config.settings(again) == site_config.settings(found)
    assert (again.changes, again.changed_at) == (found.changes, found.changed_at)
    nothing = read(Reading({}, {}, {}, []), found)
    assert site_config.settings(nothing) == site_config.settings(found)
