"""The requests that are served: each fills its results into the request object, which then is the reply."""

import time
from collections.abc import Awaitable, Callable

from tests.world.central_services import ldap_requests, token_request
from tests.world.central_services.broker import NO_LIMITS, NOT_UPDATED, UNKNOWN_HOST, Broker
from tests.world.central_services.directory import JOB_AGENT_ACCOUNT, Directory
from tests.world.central_services.faults import Fault
from tests.world.central_services.generations import Generation
from tests.world.central_services.java_classes import (
    CLASSES,
    REQUEST,
    array_list,
    entries,
    integer,
    is_known,
    linked_map,
    members,
    tree_map,
)
from tests.world.central_services.java_errors import NotAllowed, Thrown, server_exception
from tests.world.central_services.java_nodes import ClassDesc, Instance, Node, Text, literal
from tests.world.central_services.java_values import held, null_pointer, plain, text_of
from tests.world.central_services.peer import Hangup, Peer
from tests.world.central_services.pki import Authority
from tests.world.central_services.principals import authorize
from tests.world.central_services.task_queue import TaskQueue

FREE_SLOTS = "alien.api.taskQueue.GetNumberFreeSlots"
WAITING_JOBS = "alien.api.taskQueue.GetNumberWaitingJobs"
UPTIME = "alien.api.taskQueue.GetUptime"
TOKEN = token_request.TOKEN
PING = "alien.api.Ping"

_JOB_AGENT_MAY = frozenset({TOKEN})
_FORGED_SLOTS = {"not_host": UNKNOWN_HOST, "not_updated": NOT_UPDATED, "no_limits": NO_LIMITS}
_CACHED_S = {UPTIME: 60, ldap_requests.INFO: 900, ldap_requests.TREE: 900}
_ARGUMENTS = ("sParam", "sRootExt", "sKey", "recursive", "prependKey")
_CACHE_MAX = 1000


class Requests:
    """Answers requests; `cache`: as the real ones, for a while with what another client was told."""

    def __init__(
        self,
        tasks: TaskQueue,
        directory: Directory,
        authority: Authority,
        generation: Generation,
        *,
        host: str,
        ce_host: str,
        cache: bool = False,
    ) -> None:
        self._tasks = tasks
        self._directory = directory
        self._authority = authority
        self._generation = generation
        self._host = host
        self.broker = Broker(tasks, directory, generation, ce_host=ce_host)
        self._cache: dict[tuple[object, ...], tuple[float, Instance]] | None = {} if cache else None
        self._served: dict[str, Callable[[Instance, Peer], Awaitable[None]]] = {
            FREE_SLOTS: self._free_slots,
            WAITING_JOBS: self._waiting_jobs,
            TOKEN: self._token,
            PING: self._ping,
            UPTIME: self._uptime,
            ldap_requests.INFO: self._ldap_info,
            ldap_requests.TREE: self._ldap_tree,
        }

    def knows(self, desc: ClassDesc) -> bool:
        """Whether this release has the class in this version; a stream with any other ends the connection."""
        return is_known(desc) and desc.name not in self._generation.unknown_classes

    async def answer(self, node: Node, peer: Peer, fault: Fault | None = None) -> Instance | None:
        """The reply to a top-level object: None to one that is no request. Raises Hangup, StreamFault."""
        if not isinstance(node, Instance) or not is_request(node):
            return None
        serve = self._served.get(node.desc.name)
        if serve is None:
            raise Hangup(f"{node.desc.name} is not served by this world")
        if node.desc.name == TOKEN and node.fields["certificateType"] is None:
            raise Hangup("a token request without a certificate type")
        try:
            try:
                self._admit(node, peer)
            except (Thrown, NotAllowed):
                # A fault that was ordered happens, whatever else the request would have been told.
                if fault is None or not _forged(node, fault):
                    raise
                return node
            if fault is not None and _forged(node, fault):
                return node
            return await self._cached(node, peer, serve)
        except (Thrown, NotAllowed) as error:
            node.fields["exception"] = server_exception(error)
        return node

    def _admit(self, request: Instance, peer: Peer) -> None:
        if peer.account == JOB_AGENT_ACCOUNT and request.desc.name not in _JOB_AGENT_MAY:
            raise NotAllowed(f"You are not allowed to call {request.desc.name} as job agent")
        authorize(request, self._directory)

    async def _cached(self, node: Instance, peer: Peer, serve: Callable[[Instance, Peer], Awaitable[None]]) -> Instance:
        life_s = _CACHED_S.get(node.desc.name)
        if self._cache is None or life_s is None:
            await serve(node, peer)
            return node
        given = (node.fields.get(name) for name in _ARGUMENTS)
        key = (node.desc.name, *(plain(one) if isinstance(one, Text) else one for one in given))
        until, known = self._cache.get(key, (0.0, node))
        if time.monotonic() < until:
            return known
        await serve(node, peer)
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        self._cache[key] = (time.monotonic() + life_s, node)
        return node

    async def _ping(self, request: Instance, _peer: Peer) -> None:
        request.fields["serverInfo"] = linked_map([(literal("hostname"), literal(self._host))])

    async def _free_slots(self, request: Instance, _peer: Peer) -> None:
        ce, host = text_of(request, "ceName") or "", text_of(request, "host") or ""
        request.fields["slots"] = array_list(integer(number) for number in self.broker.slots(ce, host))

    async def _waiting_jobs(self, request: Instance, _peer: Peer) -> None:
        site_map = request.fields["matchRequest"]
        if not isinstance(site_map, Instance):
            text = 'Cannot invoke "java.util.HashMap.put(Object, Object)" because "this.matchRequest" is null'
            raise null_pointer(text, (WAITING_JOBS, "run", 45))
        request.fields["match"] = self.broker.waiting(site_map)

    async def _token(self, request: Instance, peer: Peer) -> None:
        await token_request.issue(request, peer, self._authority)

    async def _uptime(self, request: Instance, _peer: Peer) -> None:
        stats = CLASSES["alien.api.taskQueue.GetUptime$UserStats"]
        request.fields["stats"] = tree_map(
            {
                user: Instance(stats, {"runningJobs": running, "waitingJobs": waiting})
                for user, (running, waiting) in self._tasks.by_user().items()
            }
        )

    async def _ldap_info(self, request: Instance, _peer: Peer) -> None:
        ldap_requests.info(request, self._directory)

    async def _ldap_tree(self, request: Instance, _peer: Peer) -> None:
        ldap_requests.tree(request, self._directory)


def is_request(node: Node) -> bool:
    """Whether a top-level object is a request at all."""
    return isinstance(node, Instance) and REQUEST in node.desc.lineage()


def _forged(request: Instance, fault: Fault) -> bool:
    """Gives the reply that a fault wants; False when the fault is none of the reply's content. Raises Thrown."""
    if fault.kind == "server_exception":
        text = fault.text or "The task queue database is not available"
        raise Thrown("java.lang.RuntimeException", text, (request.desc.name, "run", 42))
    if fault.kind == "null_slots" and request.desc.name == WAITING_JOBS:
        text = 'Cannot invoke "java.util.HashMap.get(Object)" because "this.match" is null'
        raise null_pointer(text, (WAITING_JOBS, "run", 48))
    if fault.kind == "null_slots":
        request.fields["slots"] = None
        return True
    if fault.kind in _FORGED_SLOTS:
        request.fields["slots"] = array_list([integer(_FORGED_SLOTS[fault.kind])])
        return True
    return False


def described(reply: Instance) -> str:
    """What a reply says, for the log."""
    if isinstance(exception := reply.fields["exception"], Instance):
        message = held(exception, "detailMessage")
        return f"exception: {message.value if isinstance(message, Text) else ''}"
    if reply.desc.name == FREE_SLOTS:
        slots = reply.fields["slots"]
        return "null" if slots is None else str([plain(item) for item in members(slots)])
    if reply.desc.name == WAITING_JOBS:
        match = {key.value: value for key, value in entries(held(reply, "match")) if isinstance(key, Text)}
        return f"Code {plain(match.get('Code'))} counter {plain(match.get('counter'))!r}"
    if reply.desc.name == TOKEN:
        return "token"
    return "ok"
