"""What central services say about the site: LDAP by their own requests, and set on the admin port."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.central_services import asking
from tests.contract.central_services.conftest import VECTORS, Central, recorded
from tests.world.central_services.defaults import site_document
from tests.world.central_services.directory import Directory
from tests.world.central_services.java_nodes import Instance
from tests.world.central_services.ldap import NamingError
from tests.world.central_services.site_config import BadSiteConfig, SiteConfig

HOST = "vobox.localdomain"
CE_TREE = "ou=CE,ou=Services,ou=JTestSite,ou=Sites,"
# The searches as the LDAP server logged them, without regard to case; those for what is not set up here are left out.
NOT_HERE = re.compile(
    "idlece|lockedce|nolimits|host=firstce|cn=nobody|(cn|uid|users)=jalien|users=admin|nowhere|AliEnSE"
)
SEARCH = re.compile(r'SRCH base="(.*)" scope=(\d) deref=\d filter="(.*)"')
OBSERVED = [
    found.groups()
    for line in (VECTORS / "ldap-queries-all-observed.txt").read_text().splitlines()
    if (found := SEARCH.fullmatch(line)) and not NOT_HERE.search(line)
]


@pytest.fixture(scope="module")
def newer(make_central: Callable[..., Central]) -> Central:
    """The 2024 release with one CE."""
    return make_central("--generation", "2024")


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    subjects = {"/C=CH/O=JAliEn/CN=vobox.localdomain": "aliprod"}
    document = site_document(site="JTestSite", ces=["firstce"], ce_host=HOST, subjects=subjects, account="aliprod")
    return SiteConfig(tmp_path / "site.json", "JTestSite", document)


def told(reply: Instance) -> object:
    return asking.python(reply.fields["ret"])


@pytest.mark.parametrize(("base", "scope", "wanted"), OBSERVED)
def test_every_observed_search_finds_something(config: SiteConfig, base: str, scope: str, wanted: str) -> None:
    """The searches that real CEs and servers were seen to make find entries here, too."""
    assert len(OBSERVED) == 16
    root_extension = base.removesuffix("o=localhost,dc=localdomain")
    assert config.tree.search(root_extension, wanted, recursive=scope == "2")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("(&(name=b*)(!(host=h2)))", ["b1"]),
        ("(|(name=A1)(host=H2))", ["a1", "b2"]),
        ("name=*2", ["b2"]),
        ("(name=*)", ["a1", "b1", "b2"]),
        ("(&)", ["a1", "b1", "b2", ""]),
        ("(note=\\28\\2a\\29)", ["a1"]),
        ("(note=*)", ["a1"]),
        ("(name=a.*)", []),
    ],
)
def test_filters_choose_entries(tmp_path: Path, wanted: str, names: list[str]) -> None:
    """And, or, not, presence, substrings and escapes work as RFC 4515 says, without regard to case."""
    ces = {"a1": {"host": "h1", "note": "(*)"}, "b1": {"host": "h1"}, "b2": {"host": "h2"}}
    config = SiteConfig(tmp_path / "s", "S", {"site": {"domain": "d"}, "ces": ces})
    found = config.tree.search("ou=CE,ou=Services,ou=S,ou=Sites,", wanted)
    assert sorted(name.removeprefix("name=") for name, _ in found) == sorted(names)


@pytest.mark.parametrize(
    "wanted", ["", "(", "(a=b", "(a=b))", "(!(a=b)(c=d))", "(=b)", "(&(a=b)", "(!" * 40, "x" * 5000]
)
def test_bad_filters_are_named(config: SiteConfig, wanted: str) -> None:
    """What is no filter is a NamingError and nothing else."""
    with pytest.raises(NamingError):
        config.tree.search("ou=Sites,", wanted)


def test_one_level_is_one_level(config: SiteConfig) -> None:
    """A search that is not recursive sees the entries right below its base, and not the base."""
    directory = Directory(config)
    assert directory.values("(ou=*)", "ou=Sites,", "ou", recursive=False) == ["JTestSite"]
    assert "CE" in directory.values("(ou=*)", "ou=Sites,", "ou")


def test_a_ce_reads_its_configuration(newer: Central) -> None:
    """The way of the 2024 CE: its host's site, then host, CE, partitions, VO and site; keys have a prefix."""
    found = asking.answers(
        newer,
        asking.info(f"host={HOST}", "ou=Sites,", "dn"),
        asking.tree(f"(&(host={HOST}))", "ou=Config,ou=JTestSite,ou=Sites,", "host"),
        asking.tree(f"(&(host={HOST}))", CE_TREE, "ce"),
        asking.info("(&(CEname=ALICE::JTestSite::firstce))", "ou=Partitions,", "name"),
        asking.tree("(&(objectClass=AliEnVOConfig))", "ou=Config,", "vo"),
        asking.tree("(&(ou=JTestSite)(objectClass=AliEnSite))", "ou=Sites,", "site"),
        asking.info("(&(domain=localdomain))", "ou=Sites,", "accountName"),
    )
    names, host, ce, partitions, vo, site, accounts = map(told, found)
    assert names == ["host=vobox.localdomain,ou=Config,ou=JTestSite", "name=firstce,ou=CE,ou=Services,ou=JTestSite"]
    assert isinstance(host, dict) and (host["host_host"], host["host_ce"]) == (HOST, "firstce")
    assert isinstance(ce, dict) and (ce["ce_ttl"], ce["ce_matcharg"], ce["ce_host"]) == ("87000", "CPUCores=8", HOST)
    assert (ce["ce_maxjobs"], ce["ce_maxqueuedjobs"]) == ("100", "10")
    assert ce["ce_environment"] == ["ALIEN_SITE_CGROUPS=1", "RESERVED_RAM=4096"]
    assert partitions == ["part1"] and accounts == ["JTestSite"]
    assert isinstance(vo, dict) and vo["vo_userdir"] == "/alice/user"
    assert isinstance(site, dict) and site["site_accountname"] == "JTestSite"
    kinds = [one.fields["ret"].desc.name for one in found if isinstance(one.fields["ret"], Instance)]
    assert kinds == [f"java.util.{'TreeSet' if at in (0, 3, 6) else 'HashMap'}" for at in range(7)]


def test_what_is_not_there_is_empty(newer: Central) -> None:
    """No such base, no such entry, an unreadable filter: an empty map or set, no error; absent arguments: an error."""
    found = asking.answers(
        newer,
        asking.tree("(&(name=other))", CE_TREE, "ce"),
        asking.tree("(&(name=firstce))", CE_TREE.replace("JTestSite", "Elsewhere"), "ce"),
        asking.tree("((", "ou=Sites,"),
        asking.tree("(ou=*)", None),
        asking.info("(&(domain=elsewhere))", "ou=Sites,", "accountName"),
        asking.tree(None, "ou=Sites,"),
        asking.info("(ou=*)", "ou=Sites,", None),
    )
    assert [told(one) for one in found[:5]] == [{}, {}, {}, {}, []]
    assert all("is null" in (asking.message(one) or "") for one in found[5:])


def test_the_2022_release_has_no_such_requests(central: Central) -> None:
    """Older servers lack the class: they close without a reply."""
    assert asking.answers(central, asking.tree("(ou=*)", "ou=Sites,")) == []


def test_the_site_is_changed_and_kept(make_central: Callable[..., Central]) -> None:
    """Entries change by merge patch, vanish by null, become the broker's limits, and outlive a restart."""
    central = make_central("--generation", "2024")
    ask = asking.tree("(&(name=firstce))", CE_TREE, "ce")
    change = {"ces": {"firstce": {"TTL": "3600", "matcharg": None, "maxjobs": "7", "environment": ["A=1", "B=2"]}}}
    central.admin("POST", "/site_config", change)
    found = told(asking.answers(central, ask)[0])
    assert isinstance(found, dict) and (found["ce_ttl"], found["ce_environment"]) == ("3600", ["A=1", "B=2"])
    assert "ce_matcharg" not in found
    assert asking.python(asking.answers(central, slots("firstce"))[0].fields["slots"]) == [0, 7, 10]
    central.admin("POST", "/limits", {"ce": "firstce", "max_jobs": 9, "max_queued": None})
    central.admin("POST", "/site_config", {"ces": {"later": {"maxjobs": "5", "maxqueuedjobs": "6"}}})
    document = central.admin("GET", "/site_config")
    assert document["ces"]["firstce"]["maxjobs"] == "9" and "maxqueuedjobs" not in document["ces"]["firstce"]
    assert asking.python(asking.answers(central, slots("later"))[0].fields["slots"]) == [0, 5, 6]
    central.admin("POST", "/site_config", {"ces": {"firstce": None}})
    assert central.end() == 0
    central.start()
    assert told(asking.answers(central, ask)[0]) == {}


def slots(ce: str) -> Instance:
    names = {"host": asking.node(HOST), "ceName": asking.node(f"ALICE::JTestSite::{ce}")}
    return asking.request("taskQueue.GetNumberFreeSlots", port=10000, **names)


def test_roles_and_accounts_are_the_directorys(make_central: Callable[..., Central]) -> None:
    """Without the role vobox there is no token; an account without its subject is met with silence."""
    central = make_central()
    central.admin("POST", "/site_config", {"roles": {"vobox": None}})
    _, (denied,) = central.replies(recorded("token-ok", "c2s"), 1)
    assert asking.message(denied) == "You don't have permissions to ask for a JobAgent token"
    central.admin("POST", "/site_config", {"accounts": {"jalien": {"subject": None}}})
    with central.connect("ordinary_") as tls:
        tls.settimeout(0.3)
        assert tls.recv(64) == b"\xac\xed\x00\x05"
        with pytest.raises(TimeoutError):
            tls.recv(64)


@pytest.mark.parametrize(
    "patch",
    [
        {"cars": {}},
        {"ces": []},
        {"ces": {"a,b": {}}},
        {"ces": {"firstce": []}},
        {"ces": {"firstce": {"ttl": 3600}}},
        {"ces": {"firstce": {"ttl": []}}},
        {"ces": {"firstce": {"ttl": ""}}},
        {"ces": {"firstce": {"ttl": "1\n2"}}},
        {"ces": {"firstce": {"ttl": "x" * 5000}}},
        {"ces": {"firstce": {"t=l": "1"}}},
        {"site": {f"a{number}": "1" for number in range(101)}},
        {"hosts": {f"h{number}": {} for number in range(501)}},
    ],
)
def test_bad_changes_change_nothing(config: SiteConfig, patch: dict[str, object]) -> None:
    """What is no merge patch of this document is refused as a whole."""
    before = config.document
    with pytest.raises(BadSiteConfig):
        config.change({"vo": {"userdir": "/elsewhere"}, **patch})
    assert config.document == before


def test_cacheable_answers_may_be_anothers(make_central: Callable[..., Central]) -> None:
    """With --cache a repeated question gets the object that answered it first, its identifiers included."""
    central = make_central("--generation", "2024", "--cache")
    (first,) = asking.answers(central, asking.tree("(&(name=firstce))", CE_TREE, "ce"))
    central.admin("POST", "/site_config", {"ces": {"firstce": {"ttl": "1"}}})
    again = asking.tree("(&(name=firstce))", CE_TREE, "ce")
    again.fields["requestID"] = asking.node(77)
    (second,) = asking.answers(central, again)
    assert told(first) == told(second) and asking.python(second.fields["requestID"]) == 1
    (other,) = asking.answers(central, asking.tree("(&(name=firstce))", CE_TREE))
    assert asking.python(other.fields["ret"])["ttl"] == "1"  # type: ignore[index]
