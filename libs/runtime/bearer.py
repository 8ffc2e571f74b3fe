"""The bearer of the edge relays: which machine may hand datagrams in, and until when. Pure.

    v1.<machine>.<unix seconds>.<hex HMAC-SHA-256 of "v1.<machine>.<unix seconds>">

cert_renewer signs it and writes it where the worker nodes read it; monitoring_relay verifies it. Both hold the key.
"""

import hashlib
import hmac
import re
from datetime import datetime

from libs.runtime.errors import CredentialExpired, Misconfigured, Refused

MIN_KEY_BYTES = 16
MAX_BEARER_CHARACTERS = 256

_MACHINE = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_BEARER = re.compile(r"(v1\.([a-z0-9][a-z0-9-]{0,30})\.([1-9][0-9]{0,11}))\.([0-9a-f]{64})")


def sign(key: bytes, machine: str, expires_at: datetime) -> str:
    """A bearer for `machine` (its short name) that is good until just before `expires_at` (aware), in whole seconds.

    `key` is what the key file holds; white space around it does not count. Misconfigured when it is too short.
    """
    if not _MACHINE.fullmatch(machine):
        raise ValueError(f"{machine!r} is no machine's short name")
    if expires_at.tzinfo is None:
        raise ValueError("expires_at needs a time zone")
    signed = f"v1.{machine}.{int(expires_at.timestamp())}"
    return f"{signed}.{_mac(key, signed)}"


def verified(key: bytes, text: str, now: datetime) -> str:
    """The machine that a bearer names. White space around it does not count; no error quotes it.

    Refused when it is no bearer or signed with another key, CredentialExpired when its time is over, Misconfigured when
    our key is too short.
    """
    found = _BEARER.fullmatch(text.strip()) if len(text) <= MAX_BEARER_CHARACTERS else None
    if found is None:
        raise Refused("this is no bearer of an edge relay (v1.<machine>.<unix seconds>.<signature>)")
    signed, machine, expires_at_s, signature = found.groups()
    if not hmac.compare_digest(signature, _mac(key, signed)):
        raise Refused("the bearer is signed with another key; has the key file changed?")
    if now.timestamp() >= int(expires_at_s):
        raise CredentialExpired(f"the bearer of {machine} is past its time; cert_renewer writes a new one")
    return machine


def _mac(key: bytes, signed: str) -> str:
    secret = key.strip()
    if len(secret) < MIN_KEY_BYTES:
        raise Misconfigured(
            f"the key of the edge relays' bearer has {len(secret)} bytes; at least {MIN_KEY_BYTES} are needed"
        )
    return hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest()
