"""The world's central services as a process, spoken to over TLS by a client that only knows bytes."""

import datetime as dt
import socket
import ssl
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.contract.central_services.conftest import Central, inner_bytes, recorded
from tests.world.central_services.java_classes import CLASSES, entries, members
from tests.world.central_services.java_nodes import STREAM_HEADER, Instance, Text, Value
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter

CE = "ALICE::JTestSite::firstce"


def slots(central: Central, vector: str = "freeslots-ok") -> list[Value]:
    _, (reply,) = central.replies(recorded(vector, "c2s"), 1)
    return [item.fields["value"] for item in members(reply.fields["slots"]) if isinstance(item, Instance)]


def counter(central: Central, vector: str = "waiting-ok") -> str:
    _, (reply,) = central.replies(recorded(vector, "c2s"), 1)
    match = reply.fields["match"]
    assert isinstance(match, Instance)
    found = {key.value: value for key, value in entries(match) if isinstance(key, Text)}
    assert isinstance(found["counter"], Text)
    return found["counter"].value


def roles_checked(stream: bytes) -> list[bytes]:
    """The instants at which the principals' roles were looked up: what alone differs per recording."""
    found = []
    for node in StreamReader().feed(stream):
        assert isinstance(node, Instance)
        principal = node.fields["requester_uid"]
        assert isinstance(principal, Instance)
        instant = principal.fields["lRolesChecked"]
        assert isinstance(instant, int)
        found.append(struct.pack(">q", instant))
    return found


def test_a_whole_session_is_the_recorded_one(central: Central) -> None:
    """25 pipelined requests: the recorded bytes, both resets included; the token's reply has the recorded classes."""
    wanted = recorded("session-25", "s2c")
    received, replies = central.replies(recorded("session-25", "c2s"), 25)
    for ours, theirs in zip(roles_checked(received), roles_checked(wanted), strict=True):
        received = received.replace(ours, theirs)
    last_begins = 13185
    assert received[:last_begins] == wanted[:last_begins]
    original = StreamReader().feed(wanted)[-1]
    assert isinstance(original, Instance)
    for name in ("certificate", "privateKey"):
        made, seen = replies[-1].fields[name], original.fields[name]
        assert isinstance(made, Instance) and isinstance(seen, Instance) and made.desc == seen.desc
    x509.load_der_x509_certificate(inner_bytes(replies[-1], "certificate", "data"))


def test_the_2024_generation_never_resets(make_central: Callable[..., Central]) -> None:
    """With --generation 2024 the whole session has no reset."""
    received, replies = make_central("--generation", "2024").replies(recorded("session-25", "c2s"), 25)
    reader = StreamReader()
    reader.feed(received)
    assert (len(replies), reader.resets) == (25, 0)


def test_locks_and_limits_are_answered(make_central: Callable[..., Central]) -> None:
    """Lock, limits and waiting jobs set on the admin port are what the next request is told."""
    central = make_central()
    assert slots(central) == [0, 100, 10]
    central.admin("POST", "/limits", {"ce": CE, "max_jobs": 3000, "max_queued": 500})
    assert slots(central) == [0, 3000, 500]
    central.admin("POST", "/lock", {"ce": "firstce"})
    assert slots(central) == [-2]
    central.admin("POST", "/unlock", {"ce": "firstce"})
    assert slots(central) == [0, 3000, 500]
    assert counter(central) == ""
    central.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 7, "ttl_s": 80000})
    assert (counter(central), counter(central, "waiting-zero")) == ("7", "")


def test_an_unheard_of_ce_is_closed_once(make_central: Callable[..., Central]) -> None:
    """A CE central services never heard of is answered as locked, and from then on as one without limits."""
    central = make_central()
    assert [slots(central, "freeslots-nolimits") for _ in range(2)] == [[-2], [3]]
    status, _ = central.admin_status("POST", "/lock", b'{"ce": "nolimits"}')
    assert status == 404


def test_an_unknown_subject_gets_silence(central: Central) -> None:
    """A trusted certificate without an account: the header, then neither reply nor close."""
    with central.connect("unknown_") as tls:
        assert tls.recv(64) == STREAM_HEADER
        tls.sendall(recorded("freeslots-ok", "c2s"))
        tls.settimeout(0.5)
        with pytest.raises(TimeoutError):
            tls.recv(64)


def test_a_client_certificate_is_needed(central: Central) -> None:
    """Without a client certificate TLS ends with an alert."""
    context = ssl.create_default_context(cafile=central.ready["ca"])
    plain = socket.create_connection((central.ready["host"], central.ready["port"]), 10)
    refused = pytest.raises(ssl.SSLError, match="ALERT")
    with plain, refused, context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.recv(64)


def with_another_version(request: bytes) -> bytes:
    return request.replace(struct.pack(">q", CLASSES["alien.api.Request"].suid), struct.pack(">q", 1))


@pytest.mark.parametrize(
    "client_bytes",
    [
        recorded("token-nulltype", "c2s"),
        recorded("freeslots-ok", "c2s").replace(b"GetNumberFreeSlots", b"GetNumberFreeShots"),
        with_another_version(recorded("freeslots-ok", "c2s")),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["null type", "unknown class", "other version", "no stream"],
)
def test_what_cannot_be_read_closes_the_connection(central: Central, client_bytes: bytes) -> None:
    """The server closes without any reply."""
    received, replies = central.replies(client_bytes, 1)
    assert (received, replies) == (STREAM_HEADER, [])


def test_what_is_no_request_is_ignored(central: Central) -> None:
    """A String at top level gets no reply; the Ping after it does, with the server's host name."""
    (slots_request,) = StreamReader().feed(recorded("freeslots-ok", "c2s"))
    assert isinstance(slots_request, Instance)
    ping = Instance(CLASSES["alien.api.Ping"], {**slots_request.fields, "serverInfo": None})
    writer = StreamWriter()
    _, (reply,) = central.replies(STREAM_HEADER + writer.write(Text("hello")) + writer.write(ping), 1)
    info = reply.fields["serverInfo"]
    assert reply.desc.name == "alien.api.Ping" and isinstance(info, Instance)
    assert info.desc.name == "java.util.LinkedHashMap"
    assert [key.value for key, _ in entries(info) if isinstance(key, Text)] == ["hostname"]


def test_null_principals_are_an_error_reply(central: Central) -> None:
    """A request without principals is answered with a ServerException, and the connection lives on."""
    (request,) = StreamReader().feed(recorded("freeslots-ok", "c2s"))
    assert isinstance(request, Instance)
    request.fields["requester_uid"] = None
    _, (reply,) = central.replies(STREAM_HEADER + StreamWriter().write(request), 1)
    exception = reply.fields["exception"]
    assert isinstance(exception, Instance) and exception.desc.name == "alien.api.ServerException"


def test_tokens_are_what_real_ones_are(central: Central) -> None:
    """Subject, lifetime, key and usages of a job agent's certificate; issued by this authority."""
    certificate = x509.load_pem_x509_certificate(central.token()[0])
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(Path(central.ready["ca"]).read_bytes()))
    assert certificate.subject.rfc4514_string() == "CN=JobAgent,O=AliEn2,C=ch"
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life == dt.timedelta(days=2, hours=2)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_stream_is_trusted_for_roles(central: Central) -> None:
    """As the real ones: an ordinary TLS identity that declares the vobox account is given a token."""
    _, (denied,) = central.replies(recorded("token-denied", "c2s"), 1, "ordinary_")
    _, (given,) = central.replies(recorded("token-ok", "c2s"), 1, "ordinary_")
    assert denied.fields["exception"] is not None and denied.fields["certificate"] is None
    assert given.fields["exception"] is None and given.fields["certificate"] is not None


def test_keys_are_private_and_kept(make_central: Callable[..., Central]) -> None:
    """Key files have mode 0600; a restart keeps the PKI and the ports."""
    central = make_central()
    folder = Path(central.ready["ca"]).parent
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}
    before, ready = {path: path.read_bytes() for path in folder.iterdir()}, central.ready
    assert central.end() == 0
    central.start()
    assert ({path: path.read_bytes() for path in folder.iterdir()}, central.ready) == (before, ready)
