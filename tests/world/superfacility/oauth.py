"""The token endpoint: OAuth2 client credentials with a signed JWT, and the check of tokens at the API.

Sources: https://docs.nersc.gov/services/sfapi/authentication/, RFC 7523. Tokens are signed with a secret kept in the
state directory, so that they stay valid when this program is started again.
"""

from __future__ import annotations

import json
import os
import secrets
import string
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLIENT_ID_CHARACTERS = 13
# "Red" clients, the only ones that may submit, live this long.
CLIENT_LIFE_S = 48 * 3600
TOKEN_LIFE_S = 600


class InvalidClientError(Exception):
    """The assertion does not prove the client."""


class Authority:
    """Knows one client, made in `state` at the first start: `client.json`, `client.pem` (0600), `tokens.key` (0600)."""

    def __init__(self, state: Path, *, token_life_s: int = TOKEN_LIFE_S) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.key_path = state / "client.pem"
        self.token_life_s = token_life_s
        record = state / "client.json"
        if not (record.exists() and self.key_path.exists()):
            letters = string.ascii_lowercase + string.digits
            made = {
                "client_id": "".join(secrets.choice(letters) for _ in range(CLIENT_ID_CHARACTERS)),
                "expires_at": time.time() + CLIENT_LIFE_S,
            }
            _write_private(self.key_path, _new_key())
            record.write_text(json.dumps(made))
        known = json.loads(record.read_text())
        self.client_id: str = known["client_id"]
        self.expires_at: float = known["expires_at"]
        secret = state / "tokens.key"
        if not secret.exists():
            _write_private(secret, secrets.token_bytes(32))
        self._secret = secret.read_bytes()
        private = serialization.load_pem_private_key(self.key_path.read_bytes(), password=None)
        self._public = private.public_key()

    def token(self, form: Mapping[str, str], *, token_url: str) -> dict[str, Any]:
        """Return the token endpoint's answer; raises InvalidClientError."""
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClientError
        try:
            claims = jwt.decode(
                form.get("client_assertion", ""),
                key=self._public,  # type: ignore[arg-type]
                algorithms=["RS256", "PS256"],
                audience=token_url,
                issuer=self.client_id,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except jwt.PyJWTError:
            raise InvalidClientError from None
        if claims["sub"] != self.client_id or time.time() > self.expires_at:
            raise InvalidClientError
        now = int(time.time())
        token = jwt.encode(
            {"sub": self.client_id, "iat": now, "exp": now + self.token_life_s, "jti": secrets.token_hex(8)},
            self._secret,
            algorithm="HS256",
        )
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s, "scope": "api"}

    def accepts(self, authorization: str) -> bool:
        """Say whether an Authorization header carries a token that is ours and has not expired."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            jwt.decode(token.strip(), self._secret, algorithms=["HS256"])
        except jwt.PyJWTError:
            return False
        return True


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
