"""The token endpoint: OAuth2 client credentials with a signed JWT, and the check of tokens at the API.

Sources: https://docs.nersc.gov/services/sfapi/authentication/, RFC 7523. Tokens are signed with a secret kept in the
state directory, so that they stay valid when this program is started again.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLIENT_ID_CHARACTERS = 13
# "Red" clients, the only ones that may submit, live this long.
CLIENT_LIFE_S = 48 * 3600.0
TOKEN_LIFE_S = 600
CLIENTS_MAX = 20


class InvalidClientError(Exception):
    """The assertion does not prove the client."""


@dataclass
class ApiClient:
    """One client as Iris keeps it; `addresses` are the networks it may be used from, none is any.

    `tokens_sold`: how many access tokens it has bought.
    """

    client_id: str
    name: str
    key_file: str
    expires_at: float
    addresses: list[str] = field(default_factory=list)
    tokens_sold: int = 0

    def allows(self, address: str) -> bool:
        """Say whether the client may be used now and from there."""
        if time.time() >= self.expires_at:
            return False
        try:
            own = ipaddress.ip_address(address)
        except ValueError:
            return not self.addresses
        return not self.addresses or any(own in ipaddress.ip_network(network) for network in self.addresses)


class Authority:
    """The clients of `clients.json` in `state`; the first, with `client.pem` (0600), is made at the first start."""

    def __init__(
        self,
        state: Path,
        *,
        token_life_s: int = TOKEN_LIFE_S,
        client_life_s: float = CLIENT_LIFE_S,
        addresses: list[str] | None = None,
    ) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._state = state
        self.token_life_s = token_life_s
        self._client_life_s = client_life_s
        self._record = state / "clients.json"
        self.clients: dict[str, ApiClient] = {}
        if self._record.exists():
            known = [ApiClient(**row) for row in json.loads(self._record.read_text())]
            self.clients = {client.client_id: client for client in known}
        if not self.clients:
            self.change({"name": "nacre", "addresses": addresses or []}, key_file="client.pem")
        first = next(iter(self.clients.values()))
        self.client_id = first.client_id
        self.key_path = state / first.key_file
        secret = state / "tokens.key"
        if not secret.exists():
            _write_private(secret, secrets.token_bytes(32))
        self._secret = secret.read_bytes()
        self._public = {client_id: self._load(client) for client_id, client in self.clients.items()}

    def change(self, asked: Mapping[str, Any], *, key_file: str = "") -> dict[str, Any]:
        """Make a client, or with `client_id` change one: {"name"?, "life_s"?, "addresses"?}; raises ValueError."""
        addresses = asked.get("addresses")
        if addresses is not None:
            addresses = [str(ipaddress.ip_network(str(word))) for word in addresses]
        if "client_id" in asked:
            client = self.clients.get(str(asked["client_id"]))
            if client is None:
                raise ValueError("no such client")
        else:
            if len(self.clients) >= CLIENTS_MAX:
                raise ValueError(f"more than {CLIENTS_MAX} clients")
            letters = string.ascii_lowercase + string.digits
            client_id = "".join(secrets.choice(letters) for _ in range(CLIENT_ID_CHARACTERS))
            client = ApiClient(client_id, "nacre", key_file or f"{client_id}.pem", time.time() + self._client_life_s)
            _write_private(self._state / client.key_file, _new_key())
            self.clients[client_id] = client
            if key_file == "":
                self._public[client_id] = self._load(client)
        client.name = str(asked.get("name", client.name))
        if "life_s" in asked:
            client.expires_at = time.time() + float(asked["life_s"])
        if addresses is not None:
            client.addresses = addresses
        self._record.write_text(json.dumps([asdict(known) for known in self.clients.values()]))
        return asdict(client) | {"key_path": str((self._state / client.key_file).resolve())}

    def token(self, form: Mapping[str, str], *, token_url: str, address: str) -> dict[str, Any]:
        """Return the token endpoint's answer; raises InvalidClientError."""
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClientError
        assertion = form.get("client_assertion", "")
        try:
            issuer = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            if issuer not in self.clients:
                raise InvalidClientError
            claims = jwt.decode(
                assertion,
                key=self._public[issuer],
                algorithms=["RS256", "PS256"],
                audience=token_url,
                issuer=issuer,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise InvalidClientError from None
        if claims["sub"] != issuer or not self.clients[issuer].allows(address):
            raise InvalidClientError
        self.clients[issuer].tokens_sold += 1
        now = int(time.time())
        token = jwt.encode(
            {"sub": issuer, "iat": now, "exp": now + self.token_life_s, "jti": secrets.token_hex(8)},
            self._secret,
            algorithm="HS256",
        )
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s, "scope": "api"}

    def accepts(self, authorization: str, address: str) -> bool:
        """Say whether an Authorization header carries a live token of ours whose client may come from there."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            claims = jwt.decode(token.strip(), self._secret, algorithms=["HS256"])
        except (jwt.PyJWTError, ValueError):
            return False
        client = self.clients.get(str(claims.get("sub")))
        return client is not None and client.allows(address)

    def _load(self, client: ApiClient) -> rsa.RSAPublicKey:
        private = serialization.load_pem_private_key((self._state / client.key_file).read_bytes(), password=None)
        assert isinstance(private, rsa.RSAPrivateKey)
        return private.public_key()


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
