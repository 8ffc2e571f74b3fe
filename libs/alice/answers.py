"""What the central services answer: the request's own object comes back with its results or an exception filled in."""

from dataclasses import dataclass

from libs.alice import descriptors, java_values
from libs.alice.failures import server_exception
from libs.alice.nodes import Aborted, Enumerator, Instance, TopLevel, Value
from libs.runtime.errors import Malformed

MAX_CAUSES = 64
MAX_MESSAGE_CHARACTERS = 500
MATCHED = 1
OPEN = 0
LOCKED = -2

MEANINGS: dict[int | None, str] = {
    OPEN: "open, with limits",
    1: "host unknown: its domain is in no LDAP site, or it could not be inserted",
    2: "host known, but its row could not be updated",
    3: "no limits are set for this CE on this host",
    LOCKED: "centrally locked, or this CE is unknown",
    None: "the central services have no database connection",
}


@dataclass(frozen=True)
class FreeSlots:
    """The answer to FreeSlotsRequest. Limits are None unless the code is 0 (open)."""

    code: int | None
    max_jobs: int | None = None
    max_queued: int | None = None

    @property
    def meaning(self) -> str:
        """The code in words."""
        return MEANINGS.get(self.code, f"unknown code {self.code}")

    @property
    def is_locked(self) -> bool:
        """True when the CE was locked centrally: a known state in which nothing may be submitted."""
        return self.code == LOCKED


@dataclass(frozen=True)
class WaitingJobs:
    """The answer to WaitingJobsRequest: grid jobs that match; None, with a code other than 1, when not counted."""

    count: int | None
    code: int | None


@dataclass(frozen=True, repr=False)
class JobAgentToken:
    """A job agent's certificate and private key, both DER (the key PKCS#8). Never shown."""

    certificate_der: bytes
    key_der: bytes


@dataclass(frozen=True)
class Pong:
    """The answer to PingRequest: what the server tells about itself, such as `hostname`, and about us.

    `account` and `roles` are those of the principal that the server sent back, empty when it filled none in.
    """

    server_info: dict[str, str]
    account: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class UserJobs:
    """One account's grid jobs anywhere on the grid."""

    running: int
    waiting: int


@dataclass(frozen=True)
class Uptime:
    """The answer to UptimeRequest: by account. May be a minute old."""

    by_account: dict[str, UserJobs]


@dataclass(frozen=True)
class LdapTree:
    """The answer to LdapTreeRequest: the values by attribute, one or more each; empty when nothing was found."""

    attributes: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class LdapInfo:
    """The answer to LdapInfoRequest: the attribute's values, sorted; empty when nothing was found."""

    values: tuple[str, ...]


def answer(value: TopLevel, class_name: str) -> Instance:
    """The reply to a request of that class.

    Raises ServerException (or DatabaseAway) with its root message, Malformed when it is anything but a reply to that.
    """
    if isinstance(value, Aborted):
        raise Malformed(f"the central services broke off their answer: {root_message(value.exception)}")
    if not isinstance(value, Instance) or value.class_name != class_name:
        found = value.class_name if isinstance(value, Instance) else type(value).__name__
        raise Malformed(f"the central services answered a {class_name} with {found}")
    if (exception := value.get("exception")) is not None:
        raise server_exception(root_message(exception))
    return value


def root_message(exception: Value) -> str:
    """The message of the innermost cause, its class when it has none. Causes may form a cycle."""
    message = "no reason given"
    for _ in range(MAX_CAUSES):
        if not isinstance(exception, Instance):
            break
        text = exception.get("detailMessage")
        message = str(text) if isinstance(text, str) and text else exception.class_name
        cause = exception.get("cause")
        if cause is exception:
            break
        exception = cause
    return message[:MAX_MESSAGE_CHARACTERS]


def free_slots(reply: Instance) -> FreeSlots:
    """Codes and limits; Malformed when there are fewer or other numbers than the code promises."""
    slots = java_values.list_of(reply.get("slots"))
    if slots is None:
        return FreeSlots(None)
    numbers = [java_values.int_of(item) for item in slots]
    if not numbers:
        raise Malformed("the central services answered free slots with an empty list")
    if numbers[0] != OPEN:
        return FreeSlots(numbers[0])
    if len(numbers) < 3 or min(numbers) < 0:  # noqa: PLR2004 - code, jobs, queued
        raise Malformed(f"the central services answered free slots with {numbers[:8]}, not with code and two limits")
    return FreeSlots(OPEN, numbers[1], numbers[2])


def waiting_jobs(reply: Instance) -> WaitingJobs:
    """The broker's count. With Code 1 an empty or absent counter is a sum over no rows: none wait."""
    match = java_values.map_of(reply.get("match"))
    if match is None or match.get("Code") is None:
        return WaitingJobs(None, None)
    code = java_values.int_of(match["Code"])
    if code != MATCHED:
        return WaitingJobs(None, code)
    counter = java_values.text_of(match.get("counter")) or "0"
    if not (counter.isascii() and counter.isdigit() and len(counter) <= 9):  # noqa: PLR2004 - below 32 bits
        raise Malformed(f"the central services counted waiting grid jobs as {counter[:20]!r}")
    return WaitingJobs(int(counter), code)


def job_agent_token(reply: Instance) -> JobAgentToken:
    """Certificate and key; Malformed when either is missing or of a class that holds neither DER nor PKCS#8."""
    certificate, key = reply.get("certificate"), reply.get("privateKey")
    if not (isinstance(certificate, Instance) and certificate.class_name == descriptors.CERTIFICATE):
        raise Malformed("the central services answered a token request without a certificate")
    if not (isinstance(key, Instance) and key.class_name == descriptors.KEY):
        raise Malformed("the central services answered a token request without a private key in a known form")
    kind = key.get("type")
    if key.get("format") != "PKCS#8" or not (isinstance(kind, Enumerator) and kind.constant == "PRIVATE"):
        raise Malformed("the central services answered a token request with a key that is not a PKCS#8 private key")
    return JobAgentToken(java_values.bytes_of(certificate.get("data")), java_values.bytes_of(key.get("encoded")))


def pong(reply: Instance) -> Pong:
    """What the server says of itself and of us; empty when it says nothing."""
    info = java_values.map_of(reply.get("serverInfo")) or {}
    server_info = {key: java_values.text_of(value) or "" for key, value in info.items() if isinstance(value, str)}
    principal = reply.get("requester_euid")
    if not isinstance(principal, Instance):
        return Pong(server_info)
    roles = java_values.set_of(principal.get("roles")) or []
    account = principal.get("username")
    return Pong(
        server_info,
        account=account if isinstance(account, str) else "",
        roles=tuple(sorted(role for role in roles if isinstance(role, str))),
    )


def uptime(reply: Instance) -> Uptime:
    """Each account's grid jobs; Malformed when the server gives none, or no numbers."""
    stats = java_values.map_of(reply.get("stats"))
    if stats is None:
        raise Malformed("the central services answered uptime with nothing")
    found = {}
    for account, item in stats.items():
        jobs = (item.get("runningJobs"), item.get("waitingJobs")) if isinstance(item, Instance) else (None, None)
        running, waiting = jobs
        if not isinstance(running, int) or not isinstance(waiting, int):
            raise Malformed(f"the central services answered uptime without the numbers of {account[:50]!r}")
        found[account] = UserJobs(running, waiting)
    return Uptime(found)


def ldap_tree(reply: Instance) -> LdapTree:
    """The attributes; Malformed when there is no result, or one that is no text."""
    found = java_values.map_of(reply.get("ret"))
    if found is None:
        raise Malformed("the central services answered an LDAP search with nothing")
    attributes: dict[str, tuple[str, ...]] = {}
    for name, value in found.items():
        values = (str(value),) if isinstance(value, str) else java_values.texts_of(value)
        if not values:
            raise Malformed(
                f"the central services answered an LDAP search with attribute {name[:50]!r} without a value"
            )
        attributes[name] = values
    return LdapTree(attributes)


def ldap_info(reply: Instance) -> LdapInfo:
    """The values; Malformed when there is no result, or one that is no text."""
    found = java_values.texts_of(reply.get("ret"))
    if found is None:
        raise Malformed("the central services answered an LDAP search with nothing")
    return LdapInfo(found)
