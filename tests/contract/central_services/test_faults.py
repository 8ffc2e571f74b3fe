"""Faults on request: each happens exactly as often as asked, is logged, and then all is well again."""

import time
from collections.abc import Callable

import pytest

from tests.contract.central_services import asking
from tests.contract.central_services.conftest import Central, recorded
from tests.world.central_services.faults import LOGGED_MAX, PENDING_MAX, BadFault, Fault, Faults, Log
from tests.world.central_services.java_nodes import STREAM_HEADER, Instance, Value
from tests.world.central_services.java_reader import StreamReader

SLOTS = recorded("freeslots-ok", "c2s")
WAITING = recorded("waiting-ok", "c2s")


@pytest.fixture(scope="module")
def faulty(make_central: Callable[..., Central]) -> Central:
    return make_central()


def slots(central: Central) -> object:
    """What one request on a fresh connection is told: the slots, the error's text, or `closed`."""
    received, replies = central.replies(SLOTS, 1)
    if not replies:
        return "closed" if received == STREAM_HEADER else f"closed after {len(received) > len(STREAM_HEADER)}"
    return asking.message(replies[0]) or asking.python(replies[0].fields["slots"])


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "close_without_reply"}, "closed"),
        ({"kind": "close_mid_object"}, "closed after True"),
        ({"kind": "server_exception", "text": "no database today"}, "no database today"),
        ({"kind": "null_slots"}, None),
        ({"kind": "not_host"}, [1]),
        ({"kind": "not_updated"}, [2]),
        ({"kind": "no_limits"}, [3]),
    ],
)
def test_a_fault_happens_as_often_as_asked(faulty: Central, fault: dict[str, object], told: object) -> None:
    """Twice as ordered, then the truth again; the log says which was which; other requests are untouched."""
    order = faulty.admin("POST", "/_faults", {**fault, "request": "GetNumberFreeSlots", "count": 2})
    assert order["left"] == 2 and faulty.admin("GET", "/_faults") == [order]
    _, (waiting,) = faulty.replies(WAITING, 1)
    assert waiting.fields["exception"] is None
    assert [slots(faulty) for _ in range(3)] == [told, told, [0, 100, 10]]
    logged = faulty.admin("GET", "/_log?limit=4")
    assert [one["fault"] for one in logged] == [None, fault["kind"], fault["kind"], None]
    assert [one["request"] for one in logged] == ["GetNumberWaitingJobs", *["GetNumberFreeSlots"] * 3]
    assert logged[3]["result"] == "[0, 100, 10]" and logged[3]["dn"] == "/C=CH/O=JAliEn/CN=vobox.localdomain"
    assert logged[0]["at"] < logged[3]["at"] and faulty.admin("GET", "/_faults") == []


def test_silence_is_only_silence(faulty: Central) -> None:
    """The header, then nothing and no close for the whole connection; the next one is served."""
    faulty.admin("POST", "/_faults", {"kind": "silence"})
    with faulty.connect() as tls:
        assert tls.recv(64) == STREAM_HEADER
        tls.sendall(SLOTS)
        tls.settimeout(0.3)
        with pytest.raises(TimeoutError):
            tls.recv(64)
        tls.sendall(SLOTS[4:])
        with pytest.raises(TimeoutError):
            tls.recv(64)
    assert slots(faulty) == [0, 100, 10]


def test_slow_is_right_but_late(faulty: Central) -> None:
    """The answer comes after the delay, and other connections do not wait for it."""
    faulty.admin("POST", "/_faults", {"kind": "slow", "request": "GetNumberFreeSlots", "delay_s": 0.5})
    with faulty.connect() as tls:
        began_s = time.monotonic()
        tls.sendall(SLOTS)
        while len(faulty.admin("GET", "/_faults")):
            time.sleep(0.01)
        assert faulty.replies(WAITING, 1)[1] and slots(faulty) == [0, 100, 10]
        reader, found = StreamReader(), list[object]()
        while not found:
            found += reader.feed(tls.recv(65536))
        assert time.monotonic() - began_s >= 0.5


def test_half_an_object_is_no_object(faulty: Central) -> None:
    """What arrives before the close is the beginning of a right reply, and incomplete."""
    faulty.admin("POST", "/_faults", {"kind": "close_mid_object"})
    received, replies = faulty.replies(SLOTS, 1)
    assert replies == [] and recorded("freeslots-ok", "s2c").startswith(received[:200])


def test_a_database_away_is_an_error_for_waiting_jobs(faulty: Central) -> None:
    """Without a database the free slots are null, and the waiting jobs an error of the server's own code."""
    faulty.admin("POST", "/_faults", {"kind": "null_slots", "request": "GetNumberWaitingJobs"})
    _, (reply,) = faulty.replies(WAITING, 1)
    assert '"this.match" is null' in (asking.message(reply) or "") and reply.fields["match"] is None


def test_a_fault_comes_before_other_errors(faulty: Central) -> None:
    """A request that would be refused anyway is told the ordered fault, once, and then its own error."""
    faulty.admin("POST", "/_faults", {"kind": "server_exception", "text": "ordered"})
    nameless = [asking.request("Ping", requester_uid=None) for _ in range(2)]
    first, second = (asking.message(one) or "" for one in asking.answers(faulty, *nameless))
    assert first == "ordered" and "requester_uid" in second


def test_orders_can_be_withdrawn(faulty: Central) -> None:
    """DELETE leaves nothing to happen."""
    faulty.admin("POST", "/_faults", {"kind": "close_without_reply", "request": "*", "count": 1000})
    assert faulty.admin("DELETE", "/_faults") == [] == faulty.admin("GET", "/_faults")
    assert slots(faulty) == [0, 100, 10]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"kind": "earthquake"}',
        b'{"kind": "no_limits", "request": "Ping"}',
        b'{"kind": "silence", "request": "Pong"}',
        b'{"kind": "slow", "delay_s": -1}',
        b'{"kind": "slow", "count": 0}',
    ],
)
def test_bad_orders_are_told_why(faulty: Central, body: bytes) -> None:
    """An order that cannot be carried out is refused with 400 and a reason."""
    status, answer = faulty.admin_status("POST", "/_faults", body)
    assert status == 400 and answer["error"]
    assert faulty.admin_status("GET", "/_log?limit=x")[0] == 400


def test_unread_bytes_and_strangers_are_logged(faulty: Central) -> None:
    """What closed the connection, or was met with silence, is in the log without a request."""
    faulty.replies(b"GET / HTTP/1.1\r\n\r\n", 1)
    assert faulty.admin("GET", "/_log?limit=1")[0]["result"].startswith("closed: ")
    with faulty.connect("unknown_") as tls:
        tls.recv(64)
    (entry,) = faulty.admin("GET", "/_log?limit=1")
    assert entry["request"] is None and "silence" in entry["result"] and entry["dn"].endswith("/CN=nobody")


def test_orders_and_log_are_bounded() -> None:
    """Both refuse or forget beyond their bounds."""
    faults, log = Faults(), Log()
    for _ in range(PENDING_MAX):
        faults.order(Fault("slow", "Ping", 1, 0, ""))
    with pytest.raises(BadFault):
        faults.order(Fault("slow", "Ping", 1, 0, ""))
    for number in range(LOGGED_MAX + 5):
        log.add("now", "dn", None, str(number))
    assert (len(log.last(LOGGED_MAX)), log.last(1)[0]["result"], log.last(0)) == (LOGGED_MAX, str(LOGGED_MAX + 4), [])


def test_a_real_user_may_change_roles(faulty: Central) -> None:
    """Who can become another acts as the other; who cannot goes on with what the stream says."""
    asked = asking.request("Ping")
    euid = asked.fields["requester_euid"]
    assert isinstance(euid, Instance)
    refused = asking.request("Ping")
    for one, name in ((asked, "vobox"), (refused, "root")):
        other: dict[str, Value] = {"username": asking.node(name), "sUsernames": None, "roles": None}
        one.fields["requester_ruid"] = Instance(euid.desc, {**euid.fields, **other})
    found = [one.fields["requester_euid"] for one in asking.answers(faulty, asked, refused)]
    assert [asking.python(one.fields["username"]) for one in found if isinstance(one, Instance)] == ["vobox", "aliprod"]
