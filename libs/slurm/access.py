"""Access to the Superfacility API: the client's key, the signed assertion, and the token that it buys.

Source: https://docs.nersc.gov/services/sfapi/authentication/; RFC 7523 (private_key_jwt).
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.runtime import secret_file
from libs.runtime.errors import Malformed, Misconfigured, NacreError
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import Stamp

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE_S = 300
_FEWEST_KEY_BITS = 2048
# A token is replaced this long before its end, so that no request carries one that ends on its way.
_TOKEN_MARGIN_S = 60.0
# What the token endpoint does not say is taken from NERSC's documents: "approximately 10 minutes".
_TOKEN_LIFE_S = 600.0
_LONGEST_TOKEN_LIFE_S = 86_400.0 * 366
# How soon another client in the files is seen, and how soon one that was refused is tried again.
_LOOK_EVERY_S = 2.0
_TRY_AGAIN_S = 30.0

log = logging.getLogger(__name__)


class Signer:
    """One API client as read from its files: signs assertions. `stamp` tells it from what lies there later."""

    def __init__(self, client_id: str, private_key: rsa.RSAPrivateKey, stamp: Stamp) -> None:
        self.client_id = client_id
        self.stamp = stamp
        self._private_key = private_key

    def assertion(self, token_url: str, now: datetime) -> str:
        """A signed assertion (RS256) for the token endpoint."""
        issued_s = int(now.timestamp())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": token_url,
            "iat": issued_s,
            "exp": issued_s + _ASSERTION_LIFE_S,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._private_key, algorithm="RS256")


class ApiClientKey(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API client's id and private key (PEM or JWK, RSA) are.

    Any mode of the files is accepted: Kubernetes sets its own.
    """

    client_id_file: Path
    client_key_file: Path

    def stamp(self) -> Stamp:
        """What changes when another client is put in place."""
        return secret_file.stamp((self.client_id_file, self.client_key_file))

    def signer(self) -> Signer:
        """The client as it lies there now. Misconfigured when a file cannot be read or used."""
        stamp = self.stamp()
        text, key = secret_file.read_together(
            (self.client_id_file, self.client_key_file), ("Superfacility API client id", "Superfacility API key")
        )
        client_id = text.decode("utf-8", "replace").strip()
        if not client_id.isascii() or len(client_id.split()) != 1:
            raise Misconfigured(f"Superfacility API client id: {self.client_id_file} does not hold one word")
        return Signer(client_id, self._private_key(key), stamp)

    def assertion(self, token_url: str, now: datetime) -> str:
        """A signed assertion for the token endpoint. Misconfigured when a file cannot be read or used."""
        return self.signer().assertion(token_url, now)

    def _private_key(self, content: bytes) -> rsa.RSAPrivateKey:
        try:
            key: Any = (
                jwt.PyJWK.from_dict(json.loads(content), algorithm="RS256").key
                if content.lstrip().startswith(b"{")
                else load_pem_private_key(content, password=None)
            )
        # Without the cause, whose text could quote the key.
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _FEWEST_KEY_BITS:
            raise Misconfigured(
                f"Superfacility API key: {self.client_key_file} is not an RSA private key in PEM or JWK "
                f"(of at least {_FEWEST_KEY_BITS} bits); download it again from Iris"
            )
        return key


class _TokenBody(msgspec.Struct):
    access_token: str
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_TOKEN_LIFE_S)] = _TOKEN_LIFE_S


class TokenCache:
    """One access token, bought when first needed, kept until shortly before its end; one purchase at a time.

    Another client in the files is tried within seconds. Only when it has bought a token is it used; until then, and
    should it be refused, the one that served before goes on serving. `life_s`: how long the last token lives, as sold.
    """

    def __init__(self, key: ApiClientKey, buy: Callable[[Signer], Awaitable[bytes]]) -> None:
        self.life_s = 0.0
        self._key = key
        self._buy = buy
        self._files = FileWork(f"Superfacility API client {key.client_id_file}")
        self._signer: Signer | None = None
        self._token = ""
        self._good_until_s = 0.0
        self._look_at_s = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token good for at least a minute where the endpoint gives that much. Raises what buying raises."""
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._good_until_s or now_s >= self._look_at_s:
                await self._renew(must_buy=now_s >= self._good_until_s)
            return self._token

    def drop(self, token: str) -> None:
        """The API did not accept this token; the next caller buys another. A newer one stays."""
        if token == self._token:
            self._good_until_s = 0.0

    async def _renew(self, *, must_buy: bool) -> None:
        loop = asyncio.get_running_loop()
        self._look_at_s = loop.time() + _LOOK_EVERY_S
        served = self._signer
        try:
            if served is None or await self._files.run(self._key.stamp) != served.stamp:
                await self._buy_with(await self._files.run(self._key.signer))
                return
        except NacreError as error:
            if served is None:
                raise
            self._look_at_s = loop.time() + _TRY_AGAIN_S
            log.warning("the API client in the files is not used, the one before it goes on: %s", error)
        if must_buy and served is not None:
            await self._buy_with(served)

    async def _buy_with(self, signer: Signer) -> None:
        asked_s = asyncio.get_running_loop().time()
        try:
            body = msgspec.json.decode(await self._buy(signer), type=_TokenBody)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Malformed("the token endpoint's answer is not a token") from None
        self._signer = signer
        self._token = body.access_token
        self.life_s = body.expires_in
        self._good_until_s = asked_s + max(body.expires_in - _TOKEN_MARGIN_S, body.expires_in / 2)
