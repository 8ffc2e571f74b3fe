"""Asks the central services: one kept connection, one request at a time, one new attempt when the connection was lost.

Every failure closes the connection, so a late reply can never be taken for the answer to the next request.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from libs.alice import answers, identity
from libs.alice.answers import FreeSlots, JobAgentToken, LdapInfo, LdapTree, Pong, Uptime, WaitingJobs
from libs.alice.connection import Connection, Lost, Settings
from libs.alice.identity import Loaded
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
from libs.runtime.errors import Malformed

# Servers since 2024 never reset their stream, so its table of handles only grows; a fresh connection empties it.
REQUESTS_PER_CONNECTION = 500

log = logging.getLogger(__name__)


class CentralServices:
    """A client for one process; several tasks may use it, their requests take turns. Use `async with`, or `close`.

    Every request raises Misconfigured (our files, or a server that we do not trust), Refused (our certificate, or a
    ServerException with its root message), CredentialExpired, Unreachable (also silence towards an unknown account), or
    Malformed. Certificates are read anew with each connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._vm_uuid = uuid.uuid4()
        self._request_id = 0
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        if not settings.verify_name:
            log.warning(
                "the name of the central services' server is NOT verified (verify_name = false): "
                "whoever holds any certificate of the trusted authorities could answer in its place"
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def check_files(self) -> Loaded:
        """Read certificate, key and trust anchors once; gives what they say. Misconfigured if unfit."""
        return identity.load(self._settings.identity, verify_name=self._settings.verify_name)

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

    @property
    def peer(self) -> Peer | None:
        """Who answers on the kept connection; None without one."""
        return self._connection.peer if self._connection else None

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
                log.info("%s; reconnecting", lost)
            return await self._exchange(request)

    async def _exchange(self, request: Request) -> Instance:
        if self._connection is None:
            self._connection = await Connection.open(self._settings, self._vm_uuid)
        connection = self._connection
        self._request_id += 1
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self._drop)
            reply = await connection.exchange(request, self._request_id)
            undo.pop_all()
        if connection.exchanges >= REQUESTS_PER_CONNECTION:
            await self._drop()
        try:
            return answers.answer(reply, CLASS_NAMES[type(request)])
        except Malformed:
            await self._drop()
            raise

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
