"""Asks the central services: one kept connection, one request at a time, one new attempt when the connection was lost.

Every failure closes the connection, so a late reply can never be taken for the answer to the next request, and the next
connection goes to the next server.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from libs.alice import answers
from libs.alice.answers import FreeSlots, JobAgentToken, LdapInfo, LdapTree, Pong, Uptime, WaitingJobs
from libs.alice.connection import Connection, Settings, expired
from libs.alice.failures import Lost, joined
from libs.alice.identity import CurrentIdentity, Loaded
from libs.alice.java_values import Plain
from libs.alice.nodes import Instance
from libs.alice.peer import Peer
from libs.alice.requests import (
    CLASS_NAMES,
    FreeSlotsRequest,
    LdapInfoRequest,
    LdapTreeRequest,
    PingRequest,
    Request,
    TokenRequest,
    UptimeRequest,
    WaitingJobsRequest,
)
from libs.runtime import clock
from libs.runtime.errors import Malformed, NacreError

# Servers since 2024 never reset their stream, so its table of handles only grows; a fresh connection empties it, looks
# the name up again, and verifies the server again.
REQUESTS_PER_CONNECTION = 100
MOST_AGE_S = 3600.0

log = logging.getLogger(__name__)


class CentralServices:
    """A client for one process; several tasks may use it, their requests take turns. Use `async with`, or `close`.

    Every request raises Misconfigured (our files, or a server that we do not trust), Refused (our certificate, or a
    ServerException with its root message), CredentialExpired, Unreachable (also silence towards an unknown account), or
    Malformed; libs/alice/failures.py names them. `current`: the identity, when several clients share one. Its files
    are looked at before each request; when they changed, the request goes over a new connection.
    """

    def __init__(self, settings: Settings, current: CurrentIdentity | None = None) -> None:
        self._settings = settings
        self._current = current or CurrentIdentity(settings.identity, verify_name=settings.verify_name)
        self._vm_uuid = uuid.uuid4()
        self._request_id = 0
        self._server_turn = 0
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def bound_s(self, requests: int) -> float:
        """So many requests take no longer, though each is asked once more and every server is tried."""
        settings = self._settings
        connect_s = 2 * settings.connect_timeout_s * len(settings.servers)
        return 2 * requests * (settings.read_timeout_s + connect_s)

    def check_files(self) -> Loaded:
        """What certificate, key and trust anchors say. Misconfigured if unfit."""
        return self._current.loaded()

    @property
    def peer(self) -> Peer | None:
        """Who answers on the kept connection; None without one."""
        return self._connection.peer if self._connection else None

    @property
    def server(self) -> str:
        """Which server answers on the kept connection, `host:port`; empty without one."""
        return str(self._connection.server) if self._connection else ""

    async def free_slots(self, host: str, ce: str) -> FreeSlots:
        """The CE's code and limits; `ce` is `ALICE::<site>::<ce>`. The central services note that this CE is alive."""
        return answers.free_slots(await self._ask(FreeSlotsRequest(host, ce)))

    async def waiting_jobs(self, site_map: Mapping[str, Plain]) -> WaitingJobs:
        """How many grid jobs match the site map."""
        return answers.waiting_jobs(await self._ask(WaitingJobsRequest(site_map)))

    async def job_agent_token(self, days: int) -> JobAgentToken:
        """A new certificate and key for job agents; our account needs the role vobox."""
        return answers.job_agent_token(await self._ask(TokenRequest(self._settings.account, days)))

    async def ping(self) -> Pong:
        """What the server says of itself."""
        return answers.pong(await self._ask(PingRequest()))

    async def uptime(self) -> Uptime:
        """All accounts' running and waiting grid jobs."""
        return answers.uptime(await self._ask(UptimeRequest()))

    async def ldap_tree(self, request: LdapTreeRequest) -> LdapTree:
        """What LDAP says of some entries; servers before 2024 close the connection on this (Lost)."""
        return answers.ldap_tree(await self._ask(request))

    async def ldap_info(self, request: LdapInfoRequest) -> LdapInfo:
        """What LDAP says of one attribute; servers before 2024 close the connection on this (Lost)."""
        return answers.ldap_info(await self._ask(request))

    async def close(self) -> None:
        """Close the connection, after the request under way; the next request opens a new one."""
        async with self._turn:
            await self._drop()

    async def _ask(self, request: Request) -> Instance:
        async with self._turn:
            was_kept = self._connection is not None
            try:
                return await self._exchange(request)
            except Lost as lost:
                # A kept connection dies of idleness and of restarts; all our requests may be asked twice.
                if not was_kept:
                    raise
                log.debug("%s; reconnecting", lost)
            return await self._exchange(request)

    async def _exchange(self, request: Request) -> Instance:
        connection = await self._fit_connection()
        self._request_id += 1
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._give_up)
            reply = await connection.exchange(request, self._request_id)
            undo.pop_all()
        try:
            return answers.answer(reply, CLASS_NAMES[type(request)])
        except Malformed:
            await self._give_up()
            raise

    async def _fit_connection(self) -> Connection:
        """The kept connection, unless it is spent or has another certificate than the files; then a new one."""
        loaded = await self._current.now()
        kept = self._connection
        if kept is not None and (
            kept.loaded is not loaded
            or kept.exchanges >= REQUESTS_PER_CONNECTION
            or clock.monotonic_s() - kept.opened_s > MOST_AGE_S
        ):
            await self._drop()
        if self._connection is None:
            self._connection = await self._open(loaded)
        return self._connection

    async def _open(self, loaded: Loaded) -> Connection:
        """A connection to the first server that gives one, beginning with the one whose turn it is."""
        settings = self._settings
        if loaded.not_after <= clock.now():
            raise expired(loaded, settings.identity)
        failures: list[NacreError] = []
        for _ in settings.servers:
            server = settings.servers[self._server_turn % len(settings.servers)]
            try:
                return await Connection.open(settings, server, loaded, self._vm_uuid)
            except NacreError as error:
                failures.append(error)
                self._server_turn += 1
        raise joined(failures)

    async def _give_up(self) -> None:
        """The connection failed: the next one goes to the next server."""
        self._server_turn += 1
        await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
