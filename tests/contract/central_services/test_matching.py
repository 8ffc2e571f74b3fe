"""Which grid jobs a site map is told of: the broker's conditions, key by key, as the reference's table has them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.central_services import asking
from tests.contract.central_services.conftest import Central
from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_values import Plain
from tests.world.central_services.matching import BrokenQuery, users_of, where
from tests.world.central_services.task_queue import Needs, TaskQueue

CE = "ALICE::JTestSite::firstce"
LEAST: dict[str, Plain] = {"CE": CE, "Site": "JTestSite", "TTL": 87000, "CVMFS": 1}
ACCOUNTS = frozenset({"alice", "bob"})


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskQueue]:
    """Jobs 1, 2, 4, 8, 16 ... in number, so that each sum tells which kinds it holds."""
    made = TaskQueue(tmp_path_factory.mktemp("tasks") / "queue")
    kinds = [
        (CE, Needs("alice", 3600, 1)),
        (CE, Needs("alice", 3600, 8)),
        ("", Needs("bob", 86400, 1)),
        ("", Needs("alice", 3600, 1, partition="part1")),
        ("", Needs("alice", 3600, 1, sites=["JTestSite", "Other"])),
        ("", Needs("alice", 3600, 1, sites=["Elsewhere"])),
        ("", Needs("alice", 3600, 1, no_ces=[CE])),
        ("ALICE::JTestSite::otherce", Needs("alice", 3600, 1)),
        (CE, Needs("alice", 3600, 1, disk_kb=5_000_000)),
    ]
    for index, (ce, needs) in enumerate(kinds):
        made.add_grid_jobs(ce, 1 << index, needs, run_s=1)
    yield made
    made.close()


ALL = 1 + 2 + 4 + 8 + 16 + 256


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, ALL),
        ({"TTL": 3600}, None),
        ({"TTL": 3601}, ALL - 4),
        ({"TTL": "86400"}, ALL - 4),
        ({"TTL": "86401s"}, ALL),
        ({"TTL": None}, None),
        ({"CPUCores": 8}, ALL),
        ({"CPUCores": 7}, ALL - 2),
        ({"CPUCores": "1"}, ALL - 2),
        ({"CPUCores": 0}, ALL),
        ({"Disk": "5000000"}, ALL - 256),
        ({"Disk": 5_000_001}, ALL),
        ({"Site": "Other"}, ALL),
        ({"Site": "jtestsite"}, ALL - 16),
        ({"Extrasites": ["Nowhere", "Elsewhere"]}, ALL + 32),
        ({"CE": "ALICE::JTestSite::otherce"}, 4 + 8 + 16 + 64 + 128),
        ({"CE": CE.lower()}, 4 + 8 + 16 + 64),
        ({"Partition": ",part1,"}, ALL),
        ({"Partition": ",part2,part3,"}, ALL - 8),
        ({"Partition": ",,"}, ALL),
        ({"Partition": None}, None),
        ({"Users": ["bob"]}, 4),
        ({"Users": ["bob", "alice", "nobody"]}, ALL),
        ({"Users": []}, ALL),
        ({"NoUsers": ["bob", "nobody"]}, ALL - 4),
        ({"RequiredCpusCe": ">=8"}, 2),
        ({"RequiredCpusCe": " == 1"}, ALL - 2),
        ({"RequiredCpusCe": "many"}, ALL),
        ({"CVMFS": None}, ALL),
        ({"Host": "h", "closeSE": "s", "cpuIsolation": "true"}, ALL),
    ],
)
def test_each_key_has_its_effect(tasks: TaskQueue, asked: dict[str, Plain], count: int | None) -> None:
    """The count for the least map and one more key (or another value) is the sum of the kinds that fit."""
    assert tasks.waiting(where(LEAST | asked, partition_needed=False, accounts=ACCOUNTS)) == count


@pytest.mark.parametrize(("partition", "count"), [(None, ALL - 8), (",,", ALL - 8), (",part1,", ALL)])
def test_the_2024_release_needs_partitions(tasks: TaskQueue, partition: str | None, count: int) -> None:
    """Without a partition of its own a CE gets only jobs that want none."""
    asked = LEAST | ({} if partition is None else {"Partition": partition})
    assert tasks.waiting(where(asked, partition_needed=True, accounts=ACCOUNTS)) == count


def test_packages_are_needed_without_cvmfs(tasks: TaskQueue) -> None:
    """A map with neither CVMFS nor Packages gets nothing."""
    asked = {key: value for key, value in LEAST.items() if key != "CVMFS"}
    found = [where(asked | more, partition_needed=False, accounts=ACCOUNTS) for more in ({}, {"Packages": ",x,"})]
    assert [tasks.waiting(one) for one in found] == [None, ALL]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"CPUCores": "8 cores"}, "NumberFormatException"),
        ({"CPUCores": None}, "NullPointerException"),
        ({"CPUCores": 1 << 40}, "NumberFormatException"),
        ({"Users": "bob"}, "ClassCastException"),
        ({"RequiredCpusCe": 8}, "ClassCastException"),
        ({"Site": ["a"]}, "ClassCastException"),
    ],
)
def test_wrong_types_are_java_errors(asked: dict[str, Plain], error: str) -> None:
    """A value of a type the broker does not expect is the error its code would throw."""
    with pytest.raises(Thrown) as thrown:
        where(LEAST | asked, partition_needed=False, accounts=ACCOUNTS)
    assert thrown.value.class_name == f"java.lang.{error}"


@pytest.mark.parametrize("asked", [{"CVMFS": 1, "Extrasites": ["a"]}, {"CVMFS": 1, "Users": ["nobody"]}])
def test_impossible_sql_is_told_apart(asked: dict[str, Plain]) -> None:
    """Extra sites without a site, or users without any id, make no SQL."""
    with pytest.raises(BrokenQuery):
        where(asked, partition_needed=False, accounts=ACCOUNTS)


def test_requirements_name_users() -> None:
    """Allowed and refused accounts are found in a CE's requirements."""
    text = '( other.user == "alice" || other.user=="bob" ) && other.user != "eve" && other.cpucores >= 8'
    assert users_of(text) == (["alice", "bob"], ["eve"])


def test_the_directory_fills_the_map(make_central: Callable[..., Central]) -> None:
    """Requirements and partitions that the map lacks come from the directory, count, and come back in the reply."""
    central = make_central()
    text = 'other.user != "eve"'
    central.admin("POST", "/site_config", {"ces": {"firstce": {"cerequirements": text}}})
    for more in ({"user": "eve"}, {"partition": "part1"}, {"partition": "part2"}):
        central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 1, **more})
    central.admin("POST", "/grid_jobs", {"count": 5, "sites": ["JTestSite"]})
    central.admin("POST", "/grid_jobs", {"count": 7, "no_ces": ["firstce"], "cores": 2, "disk_kb": 1})
    (reply,) = asking.answers(central, asking.site_map({"CE": CE, "Site": "JTestSite", "TTL": 87000, "CVMFS": 1}))
    assert asking.python(reply.fields["match"]) == {"Code": 1, "counter": "6", "CE": CE, "Host": None}
    sent_back = asking.python(reply.fields["matchRequest"])
    assert isinstance(sent_back, dict)
    assert {name: sent_back[name] for name in sorted(sent_back.keys() - LEAST.keys())} == {
        "CheckedLDAP": "",
        "NoUsers": ["eve"],
        "Partition": ",part1,",
        "Remote": 0,
        "Users": [],
        "ce_requirements": text,
    }


def test_odd_maps_are_answered_as_by_the_real_broker(central: Central) -> None:
    """Code 0 for unknown users only, errors for a null map and wrong types; the connection lives on."""
    nobody = asking.site_map({"CE": CE, "Site": "JTestSite", "CVMFS": 1, "Users": ["nobody"]})
    wrong = asking.site_map({"CE": CE, "Site": "JTestSite", "CVMFS": 1, "CPUCores": "many"})
    null = asking.request("taskQueue.GetNumberWaitingJobs")
    without_ce = asking.site_map({"CE": None, "Site": "JTestSite"})
    found = asking.answers(central, nobody, wrong, null, without_ce)
    assert asking.python(found[0].fields["match"]) == {"Code": 0}
    assert asking.python(found[0].fields["matchRequest"])["Remote"] == 1  # type: ignore[index]
    assert asking.message(found[1]) == 'For input string: "many"'
    assert all("is null" in (asking.message(one) or "") for one in found[2:])


def test_agents_get_what_their_ce_may_run(
    make_central: Callable[..., Central], token_files: Callable[[Central], tuple[Path, Path]]
) -> None:
    """A job that the CE refuses is not handed out; one for any CE is."""
    central = make_central()
    token = token_files(central)
    central.admin("POST", "/site_config", {"ces": {"firstce": {"cerequirements": 'other.user == "bob"'}}})
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 1, "user": "alice"})
    (wanted,) = central.admin("POST", "/grid_jobs", {"count": 1, "user": "bob"})["grid_job_ids"]
    asks: list[dict[str, object]] = [{"agent": f"s.{i}", "run": "r", "ce": "firstce"} for i in range(2)]
    first, second = (central.agent("/match", ask, *token) for ask in asks)
    assert first[1]["grid_job_id"] == wanted and second == (204, None)
    (uptime,) = asking.answers(central, asking.request("taskQueue.GetUptime"))
    alice, bob = {"runningJobs": 0, "waitingJobs": 1}, {"runningJobs": 1, "waitingJobs": 0}
    assert asking.python(uptime.fields["stats"]) == {"alice": alice, "bob": bob}
