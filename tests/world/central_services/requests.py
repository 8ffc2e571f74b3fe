"""The requests that are served: each fills its results into the request object, which then is the reply."""

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography import x509

from tests.world.central_services.directory import JOB_AGENT_ACCOUNT, Directory
from tests.world.central_services.java_classes import (
    REQUEST,
    array_list,
    certificate,
    entries,
    fill_map,
    hash_map,
    integer,
    linked_map,
    linked_set,
    members,
    private_key,
    read_capacity,
)
from tests.world.central_services.java_errors import NotAllowed, Thrown, server_exception
from tests.world.central_services.java_nodes import Array, Constant, Instance, Node, StreamFault, Text, Value, literal
from tests.world.central_services.pki import Authority
from tests.world.central_services.task_queue import TaskQueue, Wanted

FREE_SLOTS = "alien.api.taskQueue.GetNumberFreeSlots"
WAITING_JOBS = "alien.api.taskQueue.GetNumberWaitingJobs"
TOKEN = "alien.api.token.GetTokenCertificate"
PING = "alien.api.Ping"
PRINCIPAL = "alien.user.AliEnPrincipal"

_OK, _UNKNOWN_HOST, _NO_LIMITS, _LOCKED = 0, 1, 3, -2
_NUMBER = re.compile(r"\s*(-?\d+)")
_BROKER = "alien.taskQueue.JobBroker"
_JOB_AGENT_MAY = frozenset({TOKEN})
_USER_CERT_MISSING = "When issuing a user certificate you need to pass the current one"


class Hangup(Exception):
    """The server ends the connection without a reply."""


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of the TLS connection."""

    account: str
    certificate: x509.Certificate


class Requests:
    """Answers requests from the task queue, the directory and the authority."""

    def __init__(
        self, tasks: TaskQueue, directory: Directory, authority: Authority, *, host: str, ce_host: str
    ) -> None:
        self._tasks = tasks
        self._directory = directory
        self._authority = authority
        self._host = host
        self._ce_host = ce_host
        self._served: dict[str, Callable[[Instance, Peer], Awaitable[None]]] = {
            FREE_SLOTS: self._free_slots,
            WAITING_JOBS: self._waiting_jobs,
            TOKEN: self._token,
            PING: self._ping,
        }

    async def answer(self, node: Node, peer: Peer) -> Instance | None:
        """The reply to a top-level object: None to one that is no request. Raises Hangup, StreamFault."""
        if not isinstance(node, Instance) or REQUEST not in node.desc.lineage():
            return None
        serve = self._served.get(node.desc.name)
        if serve is None:
            raise Hangup(f"{node.desc.name} is not served by this world")
        if node.desc.name == TOKEN and node.fields["certificateType"] is None:
            raise Hangup("a token request without a certificate type")
        try:
            self._check_identity(node, peer)
            await serve(node, peer)
        except (Thrown, NotAllowed) as error:
            node.fields["exception"] = server_exception(error)
        return node

    def _check_identity(self, request: Instance, peer: Peer) -> None:
        if peer.account == JOB_AGENT_ACCOUNT and request.desc.name not in _JOB_AGENT_MAY:
            raise NotAllowed(f"You are not allowed to call {request.desc.name} as job agent")
        for name in ("requester_uid", "requester_ruid", "requester_euid"):
            principal = request.fields[name]
            if not isinstance(principal, Instance):
                message = f'Cannot invoke "alien.user.AliEnPrincipal.canBecome(String)" because "this.{name}" is null'
                raise Thrown("java.lang.NullPointerException", message)
            if principal.desc.name != PRINCIPAL:
                raise StreamFault(f"{name} is no principal")
            self._fill_roles(principal)

    def _fill_roles(self, principal: Instance) -> None:
        """What the server adds to a principal the first time it looks at its roles."""
        if principal.fields["roles"] is not None:
            return
        names = [n for n in members(principal.fields["sUsernames"]) if isinstance(n, Text)]
        username = principal.fields["username"]
        if not names and isinstance(username, Text):
            names = [username]
        known = [literal(role) for name in names for role in self._directory.roles.get(name.value, ())]
        roles = [*names, *known]
        principal.fields["roles"] = linked_set(roles)
        principal.fields["defaultRole"] = roles[0] if roles else None
        principal.fields["lRolesChecked"] = int(dt.datetime.now(dt.UTC).timestamp() * 1000)

    async def _ping(self, request: Instance, _peer: Peer) -> None:
        request.fields["serverInfo"] = linked_map([(literal("hostname"), literal(self._host))])

    async def _free_slots(self, request: Instance, _peer: Peer) -> None:
        ce, host = _text(request, "ceName") or "", _text(request, "host") or ""
        request.fields["slots"] = array_list(integer(number) for number in self._slots(ce, host))

    def _slots(self, ce: str, host: str) -> list[int]:
        if ce and not self._tasks.is_open(ce):
            return [_LOCKED]
        if not self._directory.knows_host(host):
            return [_UNKNOWN_HOST]
        limits = self._tasks.limits(ce)
        if host != self._ce_host or limits.max_jobs is None or limits.max_queued is None:
            return [_NO_LIMITS]
        return [_OK, limits.max_jobs, limits.max_queued]

    async def _waiting_jobs(self, request: Instance, _peer: Peer) -> None:
        site_map = request.fields["matchRequest"]
        if not isinstance(site_map, Instance):
            raise Thrown("java.lang.NullPointerException", "matchRequest is null")
        asked = {key.value: value for key, value in entries(site_map) if isinstance(key, Text)}
        added: list[tuple[Node, Node]] = [(literal("Remote"), integer(0))]
        _extend(site_map, added)
        ce = asked.get("CE")
        if "Site" in asked and isinstance(ce, Text) and len(parts := ce.value.split("::")) < 3:
            message = f"Index 2 out of bounds for length {len(parts)}"
            frames = ((_BROKER, "updateWithValuesInLDAP", 621), (_BROKER, "getNumberWaitingForSite", 384))
            raise Thrown("java.lang.ArrayIndexOutOfBoundsException", message, *frames, (WAITING_JOBS, "run", 46))
        for name in ("Users", "NoUsers"):
            if name not in asked:
                added.append((literal(name), array_list(())))
        _extend(site_map, [*added[1:], (literal("CheckedLDAP"), literal(""))])
        count = self._tasks.waiting(_wanted(asked)) if _has_packages(asked) else None
        request.fields["match"] = hash_map(
            [
                (literal("Code"), integer(1)),
                # The column's name and value come fresh from the database each time, unlike the constants.
                (Text("counter"), literal("") if count is None else Text(str(count))),
                *((literal(name), asked[name]) for name in ("CE", "Host") if name in asked),
            ]
        )

    async def _token(self, request: Instance, peer: Peer) -> None:
        kind, principal = request.fields["certificateType"], request.fields["requester_euid"]
        frame = (TOKEN, "run", 243)
        if not (isinstance(kind, Constant) and kind.name == "JOB_AGENT_TOKEN"):
            raise Thrown("java.lang.IllegalArgumentException", "This world issues job agents' tokens only", frame)
        roles = {role.value for role in members(_held(principal, "roles")) if isinstance(role, Text)}
        if roles.isdisjoint(("vobox", "admin")):
            message = "You don't have permissions to ask for a JobAgent token"
            raise Thrown("java.lang.IllegalArgumentException", message, frame)
        caps = [peer.certificate.not_valid_after_utc, _user_certificate(principal).not_valid_after_utc]
        validity = request.fields["validity"]
        made, key = await asyncio.to_thread(
            self._authority.job_agent,
            validity_days=validity if isinstance(validity, int) else 0,
            caps=caps,
            now=dt.datetime.now(dt.UTC),
        )
        request.fields["certificate"], request.fields["privateKey"] = certificate(made), private_key(key)


def _extend(site_map: Instance, added: list[tuple[Node, Node]]) -> None:
    held = entries(site_map)
    names = {key.value for key, _ in held if isinstance(key, Text)}
    fresh = [(key, value) for key, value in added if isinstance(key, Text) and key.value not in names]
    fill_map(site_map, [*held, *fresh], capacity=read_capacity(len(held)))


def _text(request: Instance, name: str) -> str | None:
    value = request.fields[name]
    if isinstance(value, Text):
        return value.value
    if value is None:
        return None
    raise StreamFault(f"{name} is not a String")


def _held(node: Value, name: str) -> Node:
    value = node.fields[name] if isinstance(node, Instance) else None
    return None if isinstance(value, int | float) else value


def _user_certificate(principal: Value) -> x509.Certificate:
    chain = _held(principal, "usercert")
    if isinstance(chain, Array) and isinstance(chain.items, list) and chain.items:
        first = chain.items[0]
        data = _held(first, "data")
        if isinstance(data, Array) and isinstance(data.items, bytes):
            try:
                return x509.load_der_x509_certificate(data.items)
            except ValueError as error:
                raise StreamFault("the user's certificate cannot be read") from error
    raise Thrown("java.lang.IllegalArgumentException", _USER_CERT_MISSING, (TOKEN, "run", 243))


def _has_packages(asked: dict[str, Node]) -> bool:
    return asked.get("CVMFS") is not None or asked.get("Packages") is not None


def _wanted(asked: dict[str, Node]) -> Wanted:
    ce, site = asked.get("CE"), asked.get("Site")
    return Wanted(
        ce=ce.value if isinstance(ce, Text) else None,
        site=site.value if isinstance(site, Text) else None,
        ttl_s=_as_number(asked.get("TTL")),
        cores=_as_number(asked.get("CPUCores")),
    )


def _as_number(node: Node) -> int | None:
    """A number as the database would take the bound value: Integer, Long or a String that begins with one."""
    if isinstance(node, Text):
        found = _NUMBER.match(node.value)
        return int(found.group(1)) if found else 0
    value = node.fields.get("value") if isinstance(node, Instance) else None
    return value if isinstance(value, int) else None
