"""The requests of a computing element, from typed values to the bytes the real Java client would send.

Source: alien.site.ComputingElement, alien.api.taskQueue.*, alien.api.token.GetTokenCertificate and alien.api.Ping of
https://gitlab.cern.ch/jalien/jalien.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from libs.alice import descriptors, java_values
from libs.alice.descriptors import TABLE
from libs.alice.java_values import CACHED, Long, Plain
from libs.alice.nodes import Array, Enumerator, Instance, Text, Value
from libs.alice.writer import HEADER, Writer

CE_PORT = 10000
CE_VERSION = "J-1.0"

TokenType: TypeAlias = Literal["USER_CERTIFICATE", "JOB_TOKEN", "JOB_AGENT_TOKEN", "HOST"]

# The real client composes these values anew for each request, so they are never back references ...
MADE_FOR_EACH_REQUEST = frozenset({"CE", "Host", "Platform", "alienCm"})
# ... and finds this one out once, apart from the equal host name elsewhere.
APART_FROM_EQUALS = frozenset({"Localhost"})


@dataclass(frozen=True)
class Principal:
    """Who we say we are: our certificate's account (`accounts`: all that have its subject) and its chain, leaf first.

    The central services trust this, so it must be true: this certificate limits tokens, the account gives the rights.
    """

    account: str
    certificates_der: tuple[bytes, ...]
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FreeSlotsRequest:
    """How many job agents may this CE have on this host? `ce` is the full name `ALICE::<site>::<ce>`."""

    host: str
    ce: str
    port: int = CE_PORT
    version: str = CE_VERSION


@dataclass(frozen=True)
class WaitingJobsRequest:
    """How many grid jobs wait that match this site map?"""

    site_map: Mapping[str, Plain]


@dataclass(frozen=True)
class TokenRequest:
    """A certificate and key for job agents, `days` long (at most 2; cut to our own certificate's end)."""

    account: str
    days: int
    token_type: TokenType | None = "JOB_AGENT_TOKEN"


@dataclass(frozen=True)
class PingRequest:
    """Are you there, and who are you?"""


@dataclass(frozen=True)
class UptimeRequest:
    """How many grid jobs run and wait, for each account? The server answers out of a cache of a minute."""


@dataclass(frozen=True)
class LdapTreeRequest:
    """All attributes of the LDAP entries that the filter finds below `base` and the root, such as `ou=Sites,`.

    The names come back in lower case, with `prefix` and `_` in front unless it is empty. Servers since 2024 only, which
    keep the answer for 15 minutes.
    """

    filter: str
    base: str
    prefix: str = ""


@dataclass(frozen=True)
class LdapInfoRequest:
    """All values of one attribute (`dn`: the entries' names) of the LDAP entries that the filter finds below `base`.

    `recursive`: also below its children. Servers since 2024 only; cached there for 15 minutes.
    """

    filter: str
    base: str
    key: str
    recursive: bool = True


Request: TypeAlias = (
    FreeSlotsRequest
    | WaitingJobsRequest
    | TokenRequest
    | PingRequest
    | UptimeRequest
    | LdapTreeRequest
    | LdapInfoRequest
)

CLASS_NAMES: Mapping[type[Request], str] = {
    FreeSlotsRequest: descriptors.FREE_SLOTS,
    WaitingJobsRequest: descriptors.WAITING_JOBS,
    TokenRequest: descriptors.TOKEN,
    PingRequest: descriptors.PING,
    UptimeRequest: descriptors.UPTIME,
    LdapTreeRequest: descriptors.LDAP_TREE,
    LdapInfoRequest: descriptors.LDAP_INFO,
}


class RequestEncoder:
    """The client's direction of one connection: HEADER, then requests; each refers back to what was sent before.

    `vm_uuid` is random per process; `request_id` counts up over its life.
    """

    def __init__(self, principal: Principal, vm_uuid: uuid.UUID) -> None:
        self.header = HEADER
        self._writer = Writer()
        self._principal = _principal(principal)
        self._vm_uuid = java_values.uuid_node(vm_uuid)
        self._token_types: dict[TokenType, Enumerator] = {}
        self._boxes: dict[tuple[str, int], Instance] = {}
        self._apart: dict[tuple[str, str], Text] = {}

    def encode(self, request: Request, request_id: int) -> bytes:
        """The bytes of one request. ValueError for a number that Java's types do not hold."""
        return self._writer.write(self._node(request, request_id))

    def reset(self) -> bytes:
        """The byte after which nothing refers back; the server accepts it before any request."""
        return self._writer.reset()

    def _node(self, request: Request, request_id: int) -> Instance:
        fields: dict[str, Value] = {
            "requestID": self._box(Long(request_id)),
            "requester_uid": self._principal,
            "requester_euid": self._principal,
            "requester_ruid": self._principal,
            "vm_uuid": self._vm_uuid,
        }
        if isinstance(request, FreeSlotsRequest):
            fields |= {"host": request.host, "ceName": request.ce}
            fields |= {"port": request.port, "version": request.version}
        elif isinstance(request, WaitingJobsRequest):
            entries = {key: self._plain(key, value) for key, value in request.site_map.items()}
            fields["matchRequest"] = java_values.hash_map(entries)
        elif isinstance(request, TokenRequest):
            fields |= {"requestedUser": request.account, "validity": request.days}
            fields["certificateType"] = self._token_type(request.token_type)
        elif isinstance(request, LdapTreeRequest):
            fields |= {"sParam": request.filter, "sRootExt": request.base, "prependKey": request.prefix}
        elif isinstance(request, LdapInfoRequest):
            fields |= {"sParam": request.filter, "sRootExt": request.base}
            fields |= {"sKey": request.key, "recursive": request.recursive}
        return java_values.instance(CLASS_NAMES[type(request)], **fields)

    def _plain(self, key: str, value: Plain) -> Value:
        if isinstance(value, int):
            return self._box(value)
        if not isinstance(value, str):
            return java_values.array_list(value)
        if key in MADE_FOR_EACH_REQUEST:
            return Text(value)
        if key in APART_FROM_EQUALS:
            return self._apart.setdefault((key, value), Text(value))
        return value

    def _box(self, value: int) -> Instance:
        """Java keeps one object for each small number and makes the others anew."""
        box = java_values.long if isinstance(value, Long) else java_values.integer
        if value not in CACHED:
            return box(value)
        return self._boxes.setdefault((box.__name__, int(value)), box(value))

    def _token_type(self, token_type: TokenType | None) -> Enumerator | None:
        if token_type is None:
            return None
        return self._token_types.setdefault(token_type, Enumerator(TABLE[descriptors.TOKEN_TYPE], token_type))


def _principal(principal: Principal) -> Instance:
    chain: list[Value] = [java_values.certificate(der) for der in principal.certificates_der]
    return java_values.instance(
        descriptors.PRINCIPAL,
        username=principal.account,
        defaultUser=principal.account,
        sUsernames=java_values.linked_hash_set(principal.accounts or (principal.account,)),
        usercert=Array(TABLE[descriptors.CERTIFICATES], chain),
    )
