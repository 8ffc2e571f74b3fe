import struct
import uuid

import pytest

from libs.alice import answers, descriptors, java_values, nodes
from libs.alice.answers import FreeSlots, UserJobs, WaitingJobs
from libs.alice.descriptors import TABLE
from libs.alice.failures import (
    CertificateRefused,
    ClosedWithoutReply,
    CutOff,
    Lost,
    UnknownSubject,
    Untrusted,
    joined,
    kind,
    server_exception,
)
from libs.alice.nodes import Aborted, Array, ClassDescriptor, Content, Enumerator, Field, Instance, Part, Value
from libs.alice.reader import Reader
from libs.alice.requests import LdapInfoRequest, LdapTreeRequest, PingRequest, Principal, RequestEncoder
from libs.alice.site_map import CeFacts, site_map
from libs.alice.writer import HEADER
from libs.runtime.errors import CredentialExpired, Malformed, Misconfigured, NacreError, Refused, Unreachable
from tests.unit.alice import recordings


def slots(*numbers: int) -> Instance:
    items = java_values.instance(descriptors.ARRAY_LIST, size=len(numbers))
    items.parts[-1].annotation = [struct.pack(">i", len(numbers)), *map(java_values.integer, numbers)]
    return java_values.instance(descriptors.FREE_SLOTS, slots=items)


def match(**entries: Value) -> Instance:
    return java_values.instance(descriptors.WAITING_JOBS, match=java_values.hash_map(entries))


def test_free_slots_without_database_are_unknown() -> None:
    """null slots mean that the server had no database; no number is made up."""
    found = answers.free_slots(java_values.instance(descriptors.FREE_SLOTS))
    assert found == FreeSlots(None)
    assert "database" in found.meaning
    assert not found.is_locked


@pytest.mark.parametrize(
    ("code", "words"), [(1, "host unknown"), (3, "no limits"), (-2, "locked"), (9, "unknown code 9")]
)
def test_codes_other_than_open_carry_a_meaning_and_no_limits(code: int, words: str) -> None:
    """Only an open CE has limits; what follows another code is not read."""
    found = answers.free_slots(slots(code, 100, 10))
    assert found == FreeSlots(code)
    assert words in found.meaning
    assert found.is_locked == (code == -2)


@pytest.mark.parametrize("numbers", [(), (0,), (0, 1), (0, -1, 5)])
def test_free_slots_with_too_few_or_negative_numbers_are_malformed(numbers: tuple[int, ...]) -> None:
    """Code 0 promises two limits."""
    with pytest.raises(Malformed, match="free slots"):
        answers.free_slots(slots(*numbers))


def test_waiting_jobs_count_only_what_the_broker_counted() -> None:
    """Code 1 with an empty or absent counter is zero; any other code, or none, is unknown."""
    one = java_values.integer(1)
    assert answers.waiting_jobs(match(Code=one, counter="49")) == WaitingJobs(49, 1)
    assert answers.waiting_jobs(match(Code=one, counter="")) == WaitingJobs(0, 1)
    assert answers.waiting_jobs(match(Code=one, counter=None)) == WaitingJobs(0, 1)
    assert answers.waiting_jobs(match(Code=one)) == WaitingJobs(0, 1)
    assert answers.waiting_jobs(match(Code=java_values.integer(0))) == WaitingJobs(None, 0)
    assert answers.waiting_jobs(match()) == WaitingJobs(None, None)
    assert answers.waiting_jobs(java_values.instance(descriptors.WAITING_JOBS)) == WaitingJobs(None, None)


@pytest.mark.parametrize("counter", ["-1", "4.5", "many", "٣", "9999999999", " 1"])
def test_a_counter_that_is_no_count_is_malformed(counter: str) -> None:
    """A number that we cannot trust is an error, not a demand."""
    with pytest.raises(Malformed, match="counted waiting"):
        answers.waiting_jobs(match(Code=java_values.integer(1), counter=counter))


def token_reply(**changes: Value) -> Instance:
    """The recorded token with fields of its certificate or key changed, or whole fields replaced."""
    reply = recordings.instances(recordings.answered("token-ok"))[0]
    for name, value in changes.items():
        holder = next(part for part in reply.parts if "privateKey" in part.fields)
        if name in holder.fields:
            holder.fields[name] = value
        else:
            key = reply.get("privateKey")
            assert isinstance(key, Instance)
            key.parts[-1].fields[name] = value
    return reply


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"certificate": None}, "without a certificate"),
        ({"certificate": "x"}, "without a certificate"),
        ({"certificate": java_values.integer(1)}, "without a certificate"),
        ({"privateKey": None}, "without a private key"),
        ({"privateKey": java_values.integer(1)}, "without a private key"),
        ({"format": "PKCS#1"}, "not a PKCS#8"),
        ({"type": None}, "not a PKCS#8"),
        ({"type": Enumerator(TABLE[descriptors.TOKEN_TYPE], "PUBLIC")}, "not a PKCS#8"),
        ({"encoded": None}, "bytes were expected"),
    ],
)
def test_a_token_without_both_halves_in_known_form_is_malformed(changes: dict[str, Value], words: str) -> None:
    """Only an X.509 certificate with a PKCS#8 private key is a token."""
    with pytest.raises(Malformed, match=words):
        answers.job_agent_token(token_reply(**changes))


def throwable(message: str | None, cause: Value = None) -> Instance:
    template = recordings.instances(recordings.answered("token-denied"))[0].get("exception")
    assert isinstance(template, Instance)
    made = Instance(template.descriptor, [Part(part.descriptor, dict(part.fields)) for part in template.parts])
    made.parts[0].fields |= {"detailMessage": message, "cause": cause}
    return made


def test_the_root_message_is_the_innermost_causes() -> None:
    """Causes are followed to the end, through nulls, cycles and causes without a message."""
    assert answers.root_message(throwable("outer", throwable("inner"))) == "inner"
    assert answers.root_message(throwable("outer", throwable(None))) == "alien.api.ServerException"
    assert answers.root_message(None) == "no reason given"
    own = throwable("own cause")
    own.parts[0].fields["cause"] = own
    assert answers.root_message(throwable("outer", own)) == "own cause"
    first, second = throwable("first"), throwable("second")
    first.parts[0].fields["cause"], second.parts[0].fields["cause"] = second, first
    assert answers.root_message(first) in {"first", "second"}
    assert len(answers.root_message(throwable("x" * 10_000))) == 500


def test_only_the_requests_own_class_is_an_answer() -> None:
    """Another class, a string, an abort: malformed; an exception: refused."""
    with pytest.raises(Malformed, match=r"with alien\.api\.Ping"):
        answers.answer(java_values.instance(descriptors.PING), descriptors.TOKEN)
    with pytest.raises(Malformed, match="with str"):
        answers.answer("hello", descriptors.TOKEN)
    with pytest.raises(Malformed, match="broke off their answer: out of memory"):
        answers.answer(Aborted(throwable("out of memory")), descriptors.TOKEN)
    with pytest.raises(Refused, match="no permission"):
        answers.answer(java_values.instance(descriptors.PING, exception=throwable("no permission")), descriptors.PING)


def test_a_ping_goes_out_and_its_answer_tells_about_the_server() -> None:
    """Ping has the recorded class and no fields of its own; the answer's map may hold nulls."""
    encoder = RequestEncoder(Principal("me", (b"der",), ("me", "other")), uuid.UUID(int=1))
    (request,) = recordings.instances(HEADER + encoder.encode(PingRequest(), 1))
    assert request.class_name == descriptors.PING
    assert request.get("serverInfo") is None
    info = java_values.hash_map({"hostname": "central", "nothing": None})
    assert answers.pong(java_values.instance(descriptors.PING, serverInfo=info)).server_info == {"hostname": "central"}
    assert answers.pong(request).server_info == {}


def test_a_ping_tells_the_account_and_roles_that_the_server_filled_in() -> None:
    """Sorted; empty when the server sent no principal, no roles, or another kind of set."""
    roles = java_values.linked_hash_set(("vobox", "aliprod"))
    for username, held, expected in (
        ("aliprod", roles, ("aliprod", ("aliprod", "vobox"))),
        ("aliprod", None, ("aliprod", ())),
        (None, java_values.array_list(["vobox"]), ("", ())),
    ):
        principal = java_values.instance(descriptors.PRINCIPAL, username=username, roles=held)
        pong = answers.pong(java_values.instance(descriptors.PING, requester_euid=principal))
        assert (pong.account, pong.roles) == expected
    assert answers.pong(java_values.instance(descriptors.PING)).roles == ()


def test_a_site_map_says_what_the_ce_knows() -> None:
    """The smallest site map: no disk, partition or work directory; cores not configured are Long 1."""
    found = site_map(CeFacts(ce="ALICE::LBL::perl", host="ce.lbl.gov", ttl_s=100))
    assert found == {
        "Site": "LBL",
        "CE": "ALICE::LBL::perl",
        "Host": "ce.lbl.gov",
        "CEhost": "ce.lbl.gov",
        "Localhost": "ce.lbl.gov",
        "alienCm": "ce.lbl.gov:10000",
        "Platform": "Linux-x86_64",
        "TTL": 100,
        "CPUCores": 1,
        "CVMFS": 1,
    }
    assert isinstance(found["CPUCores"], java_values.Long)
    assert site_map(CeFacts(ce="bogus", host="h", ttl_s=1, cores=0))["CPUCores"] == 0
    assert CeFacts(ce="bogus", host="h", ttl_s=1).site == ""
    assert site_map(CeFacts(ce="a::b::c", host="h", ttl_s=1, partitions=("p", "q")))["Partition"] == ",p,q,"


def test_a_site_map_with_everything() -> None:
    """Users and sites are lists, requirements a string, the platform the worker nodes'."""
    facts = CeFacts(
        ce="a::b::c",
        host="h",
        ttl_s=1,
        users=("x",),
        no_users=("y",),
        required_cpus=">=8",
        extra_sites=("CERN", "LBL"),
        platform="Linux-aarch64",
        disk="100",
        work_directory="/tmp",
    )
    found = site_map(facts)
    assert (found["Users"], found["NoUsers"], found["Extrasites"]) == (("x",), ("y",), ("CERN", "LBL"))
    assert (found["RequiredCpusCe"], found["Platform"]) == (">=8", "Linux-aarch64")
    assert (found["Disk"], found["workdir"]) == ("100", "/tmp")


def test_arrays_of_bytes_only_are_bytes() -> None:
    """An array of objects is not mistaken for bytes."""
    with pytest.raises(Malformed, match="bytes were expected, not Array"):
        java_values.bytes_of(Array(TABLE[descriptors.CERTIFICATES], []))


def sorted_set(*items: Content) -> Instance:
    kind = ClassDescriptor(descriptors.TREE_SET, 1, nodes.SERIALIZABLE | nodes.WRITE_METHOD, ())
    return Instance(kind, [Part(kind, {}, [None, bytes(4), *items])])


def sorted_map(*items: Content) -> Instance:
    kind = ClassDescriptor(descriptors.TREE_MAP, 1, nodes.SERIALIZABLE | nodes.WRITE_METHOD, ())
    return Instance(kind, [Part(kind, {"comparator": None}, [bytes(4), *items])])


def user_stats(running: int, waiting: int) -> Instance:
    kind = ClassDescriptor(
        "alien.api.taskQueue.GetUptime$UserStats",
        7614077240613964647,
        nodes.SERIALIZABLE,
        (Field("I", "runningJobs"), Field("I", "waitingJobs")),
    )
    return Instance(kind, [Part(kind, {"runningJobs": running, "waitingJobs": waiting})])


def test_uptime_is_read_by_account() -> None:
    """Running and waiting grid jobs of each account."""
    reply = java_values.instance(descriptors.UPTIME, stats=sorted_map("a", user_stats(3, 7), "b", user_stats(0, 0)))
    assert answers.uptime(reply).by_account == {"a": UserJobs(3, 7), "b": UserJobs(0, 0)}


@pytest.mark.parametrize("stats", [None, sorted_map("a", "b"), sorted_map("a", sorted_set())])
def test_uptime_without_numbers_is_malformed(stats: Value) -> None:
    """No number is made up for an account, or for all."""
    with pytest.raises(Malformed, match="answered uptime with"):
        answers.uptime(java_values.instance(descriptors.UPTIME, stats=stats))


def test_ldap_answers_hold_one_value_or_several() -> None:
    """A single value comes as a string, several as a sorted set; a hash set is a set, too."""
    ret = java_values.hash_map({"ce_type": "SLURM", "ce_environment": sorted_set("A=1", "B=2")})
    tree = answers.ldap_tree(java_values.instance(descriptors.LDAP_TREE, ret=ret))
    assert tree.attributes == {"ce_type": ("SLURM",), "ce_environment": ("A=1", "B=2")}
    for found in (sorted_set("x", "y"), java_values.linked_hash_set(["x", "y"])):
        info = answers.ldap_info(java_values.instance(descriptors.LDAP_INFO, ret=found))
        assert info.values == ("x", "y")
    assert answers.ldap_info(java_values.instance(descriptors.LDAP_INFO, ret=sorted_set())).values == ()


def test_ldap_answers_without_result_are_malformed() -> None:
    """An absent result is not an empty one, and other things than strings are no values."""
    with pytest.raises(Malformed, match="with nothing"):
        answers.ldap_tree(java_values.instance(descriptors.LDAP_TREE))
    with pytest.raises(Malformed, match="with nothing"):
        answers.ldap_info(java_values.instance(descriptors.LDAP_INFO))
    with pytest.raises(Malformed, match="a set was expected, not str"):
        answers.ldap_info(java_values.instance(descriptors.LDAP_INFO, ret="x"))
    with pytest.raises(Malformed, match="not one with 1 other"):
        answers.ldap_info(java_values.instance(descriptors.LDAP_INFO, ret=sorted_set("x", java_values.integer(1))))
    empty = java_values.hash_map({"a": None})
    with pytest.raises(Malformed, match="attribute"):
        answers.ldap_tree(java_values.instance(descriptors.LDAP_TREE, ret=empty))


def test_ldap_searches_carry_their_filter_base_and_names() -> None:
    """Each part of a search is in the field of which the server reads it."""
    encoder = RequestEncoder(Principal("a", ()), uuid.UUID(int=0))
    data = encoder.encode(LdapTreeRequest("(a=b)", "ou=Sites,", "site"), 1)
    tree, info = Reader().feed(HEADER + data + encoder.encode(LdapInfoRequest("(a=b)", "ou=CE,", "dn"), 2))
    assert isinstance(tree, Instance)
    assert isinstance(info, Instance)
    assert [tree.get(name) for name in ("sParam", "sRootExt", "prependKey", "ret")] == [
        "(a=b)",
        "ou=Sites,",
        "site",
        None,
    ]
    assert [info.get(name) for name in ("sParam", "sRootExt", "sKey", "recursive")] == ["(a=b)", "ou=CE,", "dn", True]


def test_each_failure_has_a_name_of_its_own() -> None:
    """Counters and alarms tell them apart; one that is not named here counts as the kind it belongs to."""
    named = [
        (UnknownSubject("x"), "unknown_subject"),
        (ClosedWithoutReply("x"), "closed_without_reply"),
        (CutOff("x"), "cut_off"),
        (Lost("x"), "connection_lost"),
        (Unreachable("x"), "unreachable"),
        (CertificateRefused("x"), "certificate_refused"),
        (CredentialExpired("x"), "certificate_expired"),
        (server_exception("no such CE"), "server_exception"),
        (server_exception('because "this.match" is null'), "database_away"),
        (Untrusted("x"), "untrusted_server"),
        (Misconfigured("x"), "misconfigured"),
        (Malformed("x"), "malformed"),
        (NacreError("x"), "other"),
    ]
    assert [kind(error) for error, _ in named] == [word for _, word in named]


def test_the_failures_of_several_servers_are_one() -> None:
    """All are told; a reason that waiting does not mend is stronger than being away; one alone stays itself."""
    away, refused = Unreachable("a away"), CertificateRefused("b refused")
    assert joined([refused]) is refused
    both = joined([away, refused])
    assert isinstance(both, CertificateRefused)
    assert str(both) == "a away; b refused"
    assert type(joined([away, Lost("c lost")])) is Unreachable
