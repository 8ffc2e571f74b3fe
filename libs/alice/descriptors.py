"""Every class that we write, as one table: serial version, flags, fields in stream order, parent.

The numbers belong to the central services' release; another number makes the server close without a reply. They were
seen on the wire of the 2022-03 and 2024-03 releases. Source: alien.api.* of https://gitlab.cern.ch/jalien/jalien, JDK.
"""

from libs.alice.nodes import ENUM_CLASS, REFERENCES, SERIALIZABLE, WRITE_METHOD, ClassDescriptor, Field

FREE_SLOTS = "alien.api.taskQueue.GetNumberFreeSlots"
WAITING_JOBS = "alien.api.taskQueue.GetNumberWaitingJobs"
TOKEN = "alien.api.token.GetTokenCertificate"
PING = "alien.api.Ping"
UPTIME = "alien.api.taskQueue.GetUptime"
LDAP_INFO = "alien.api.LDAPInfoRequest"
LDAP_TREE = "alien.api.LDAPTreeRequest"
REQUEST = "alien.api.Request"
SERVER_EXCEPTION = "alien.api.ServerException"
PRINCIPAL = "alien.user.AliEnPrincipal"
TOKEN_TYPE = "alien.api.token.TokenCertificateType"
THROWABLE = "java.lang.Throwable"
INTEGER = "java.lang.Integer"
LONG = "java.lang.Long"
NUMBER = "java.lang.Number"
ENUM = "java.lang.Enum"
UUID = "java.util.UUID"
ARRAY_LIST = "java.util.ArrayList"
HASH_MAP = "java.util.HashMap"
HASH_SET = "java.util.HashSet"
TREE_MAP = "java.util.TreeMap"
TREE_SET = "java.util.TreeSet"
LINKED_HASH_SET = "java.util.LinkedHashSet"
CERTIFICATE = "java.security.cert.Certificate$CertificateRep"
KEY = "java.security.KeyRep"
CERTIFICATES = "[Ljava.security.cert.X509Certificate;"
BYTES = "[B"

CUSTOM = SERIALIZABLE | WRITE_METHOD
CONSTANT = SERIALIZABLE | ENUM_CLASS

_ROWS: tuple[tuple[str, int, int, str, str | None], ...] = (
    (NUMBER, -8742448824652078965, SERIALIZABLE, "", None),
    (INTEGER, 1360826667806852920, SERIALIZABLE, "I value", NUMBER),
    (LONG, 4290774380558885855, SERIALIZABLE, "J value", NUMBER),
    (ENUM, 0, CONSTANT, "", None),
    (UUID, -4856846361193249489, SERIALIZABLE, "J leastSigBits; J mostSigBits", None),
    (ARRAY_LIST, 8683452581122892189, CUSTOM, "I size", None),
    (HASH_MAP, 362498820763181265, CUSTOM, "F loadFactor; I threshold", None),
    (HASH_SET, -5024744406713321676, CUSTOM, "", None),
    (LINKED_HASH_SET, -2851667679971038690, SERIALIZABLE, "", HASH_SET),
    (BYTES, -5984413125824719648, SERIALIZABLE, "", None),
    (CERTIFICATE, -8563758940495660020, SERIALIZABLE, "data [B; type java.lang.String", None),
    (CERTIFICATES, 6322893624031959962, SERIALIZABLE, "", None),
    (
        PRINCIPAL,
        -5393260803758989309,
        SERIALIZABLE,
        "Z jobAgentFlag; J lRolesChecked; defaultRole java.lang.String; defaultUser java.lang.String;"
        " extensions java.util.HashMap; roles java.util.Set; sUsernames java.util.Set;"
        f" usercert {CERTIFICATES[:-1]}; username java.lang.String",
        None,
    ),
    (
        REQUEST,
        -8044096743871226167,
        SERIALIZABLE,
        f"exception {SERVER_EXCEPTION}; requestID {LONG}; requester_euid {PRINCIPAL}; requester_ruid {PRINCIPAL};"
        f" requester_uid {PRINCIPAL}; vm_uuid {UUID}",
        None,
    ),
    (
        FREE_SLOTS,
        5445861914172987654,
        SERIALIZABLE,
        "I port; ceName java.lang.String; host java.lang.String; slots java.util.List; version java.lang.String",
        REQUEST,
    ),
    (WAITING_JOBS, 5445861912342537975, SERIALIZABLE, f"match {HASH_MAP}; matchRequest {HASH_MAP}", REQUEST),
    (TOKEN_TYPE, 0, CONSTANT, "", ENUM),
    (
        TOKEN,
        7799371357160254760,
        SERIALIZABLE,
        f"I validity; certificate java.security.cert.X509Certificate; certificateType {TOKEN_TYPE};"
        " extension java.lang.String; privateKey java.security.PrivateKey; requestedUser java.lang.String",
        REQUEST,
    ),
    (PING, -2970460898632648056, SERIALIZABLE, "serverInfo java.util.Map", REQUEST),
    (UPTIME, 766147136470300455, SERIALIZABLE, "stats java.util.Map", REQUEST),
    (
        LDAP_INFO,
        4715023480701764443,
        SERIALIZABLE,
        "Z recursive; ret java.util.Set; sKey java.lang.String; sParam java.lang.String; sRootExt java.lang.String",
        REQUEST,
    ),
    (
        LDAP_TREE,
        -823796944415605996,
        SERIALIZABLE,
        "prependKey java.lang.String; ret java.util.Map; sParam java.lang.String; sRootExt java.lang.String",
        REQUEST,
    ),
)


def _field(text: str) -> Field:
    """`I port` is a primitive; `name class` a reference, whose JVM signature follows from the class."""
    first, second = text.split()
    if len(first) == 1:
        return Field(first, second)
    if second == BYTES:
        return Field(second[0], first, second)
    if second[0] in REFERENCES[1:]:
        return Field(second[0], first, second.replace(".", "/") + ";")
    return Field("L", first, f"L{second.replace('.', '/')};")


def _table() -> dict[str, ClassDescriptor]:
    found: dict[str, ClassDescriptor] = {}
    for name, serial_version, flags, fields, parent in _ROWS:
        made = tuple(_field(text) for text in fields.split("; ")) if fields else ()
        found[name] = ClassDescriptor(name, serial_version, flags, made, found[parent] if parent else None)
    return found


TABLE = _table()
