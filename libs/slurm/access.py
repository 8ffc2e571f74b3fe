"""Access to the Superfacility API: the client's key, the signed assertion, and the token that it buys.

Source: https://docs.nersc.gov/services/sfapi/authentication/; RFC 7523 (private_key_jwt).
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import msgspec

from libs.runtime.errors import Malformed, Misconfigured
from libs.runtime.secret_file import read_secret

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE_S = 300
# A token is replaced this long before its end, so that no request carries one that ends on its way.
_TOKEN_MARGIN_S = 60.0
# What the token endpoint does not say is taken from NERSC's documents: "approximately 10 minutes".
_TOKEN_LIFE_S = 600.0


class ApiClientKey(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API client's id and private key (PEM or JWK, RSA) are.

    Read at each use, so that a renewal takes effect. Any mode of the files is accepted: Kubernetes sets its own.
    """

    client_id_file: Path
    client_key_file: Path

    def client_id(self) -> str:
        """The client's id. Misconfigured when the file cannot be read or does not hold one word."""
        text = read_secret(self.client_id_file, "Superfacility API client id").decode("utf-8", "replace").strip()
        if not text.isascii() or len(text.split()) != 1:
            raise Misconfigured(f"Superfacility API client id: {self.client_id_file} does not hold one word")
        return text

    def assertion(self, token_url: str, now: datetime) -> str:
        """A signed assertion (RS256) for the token endpoint. Misconfigured when the key cannot be read or used."""
        client_id = self.client_id()
        issued_s = int(now.timestamp())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_url,
            "iat": issued_s,
            "exp": issued_s + _ASSERTION_LIFE_S,
            "jti": str(uuid.uuid4()),
        }
        content = read_secret(self.client_key_file, "Superfacility API key")
        unusable = Misconfigured(
            f"Superfacility API key: {self.client_key_file} is not an RSA private key in PEM or JWK; "
            "download it again from Iris"
        )
        try:
            # `from None`: the causes could quote the key.
            return jwt.encode(claims, _private_key(content), algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            raise unusable from None


def _private_key(content: bytes) -> Any:
    if content.lstrip().startswith(b"{"):
        return jwt.PyJWK.from_dict(json.loads(content), algorithm="RS256").key
    return content


class _TokenBody(msgspec.Struct):
    access_token: str
    expires_in: float = _TOKEN_LIFE_S


class TokenCache:
    """One access token, bought when first needed, kept until shortly before its end; one purchase at a time."""

    def __init__(self, buy: Callable[[], Awaitable[bytes]]) -> None:
        self._buy = buy
        self._token = ""
        self._good_until_s = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token good for at least a minute where the endpoint gives that much. Raises what buying raises."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._good_until_s:
                asked_s = loop.time()
                try:
                    body = msgspec.json.decode(await self._buy(), type=_TokenBody)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise Malformed("the token endpoint's answer is not a token") from None
                self._token = body.access_token
                self._good_until_s = asked_s + max(body.expires_in - _TOKEN_MARGIN_S, body.expires_in / 2)
            return self._token

    def drop(self, token: str) -> None:
        """The API did not accept this token; the next caller buys another. A newer one stays."""
        if token == self._token:
            self._good_until_s = 0.0
