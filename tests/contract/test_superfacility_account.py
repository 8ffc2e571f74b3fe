"""What GET /account/clients says of our client, in every shape; one that bought a token serves whatever it says."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from libs.runtime.errors import Malformed, Misconfigured, NacreError, Refused
from libs.slurm import account
from libs.slurm.access import ApiClientKey
from libs.slurm.superfacility import Endpoint

KEY = rsa.generate_private_key(65537, 2048)
TOKEN = {"access_token": "t", "expires_in": 600}


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    (tmp_path / "id").write_text("abcdefghijklm")
    (tmp_path / "key").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Endpoint(
        machine="perlmutter",
        api_url="https://api.test",
        token_url="https://api.test/token",
        key=ApiClientKey(client_id_file=tmp_path / "id", client_key_file=tmp_path / "key"),
        user_agent="nacre/test",
        time_zone="America/Los_Angeles",
        rate_per_s=1000.0,
    )


def facility(clients: Any, token: Any = TOKEN, status: int = 200) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, content=json.dumps(token))
        return httpx.Response(status, content=clients if isinstance(clients, bytes) else json.dumps(clients))

    return httpx.MockTransport(answer)


def client(**changes: Any) -> dict[str, Any]:
    return {"name": "nacre", "clientId": "abcdefghijklm", "expiresAt": "2026-11-27T10:00:00+00:00", **changes}


async def test_our_own_client_is_found_among_others(endpoint: Endpoint) -> None:
    """With its name and its end; an instant without a zone is the facility's local time."""
    found = await account.tried(endpoint, facility([client(clientId="other", expiresAt="2020-01-01"), client()]))
    assert (found.client_id, found.name, found.unknown_because) == ("abcdefghijklm", "nacre", "")
    assert found.ends_at == datetime(2026, 11, 27, 10, tzinfo=UTC)
    assert (found.token_ends_at - found.token_bought_at).total_seconds() == 600
    local = await account.tried(endpoint, facility([client(expiresAt="2026-11-27T02:00:00", name=None)]))
    assert local.ends_at == datetime(2026, 11, 27, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("clients", "status", "words"),
    [
        ([], 200, "0 clients are listed, and no end of ours"),
        ([client(clientId="other")], 200, "no end of ours"),
        ([client(expiresAt=None)], 200, "no end of ours"),
        ([client(expiresAt="soon")], 200, "'soon' is not an instant"),
        ({"clients": []}, 200, "not the list that the API documents"),
        (b"<html>", 200, "not the list that the API documents"),
        (b"", 503, "HTTP 503"),
        (b'{"detail": "Not authenticated"}', 403, "HTTP 403"),
    ],
)
async def test_an_end_that_is_not_said_is_unknown(endpoint: Endpoint, clients: Any, status: int, words: str) -> None:
    """The client has bought a token and serves; its end is unknown, and why."""
    found = await account.tried(endpoint, facility(clients, status=status))
    assert found.ends_at is None
    assert words in found.unknown_because


@pytest.mark.parametrize("lifetime", [-1, 0, 1e300, "long"])
async def test_a_token_with_a_foolish_life_is_none(endpoint: Endpoint, lifetime: Any) -> None:
    """Not later than never, nor before now."""
    with pytest.raises(Malformed, match="not a token"):
        await account.tried(endpoint, facility([], {"access_token": "t", "expires_in": lifetime}))


async def test_one_that_does_not_serve_is_an_error(endpoint: Endpoint) -> None:
    """Refused by the token endpoint, or unfit itself: too short a key, no key, two words for an id."""

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"error": "invalid_client"})

    with pytest.raises(Refused, match="not in its IP ranges"):
        await account.tried(endpoint, httpx.MockTransport(refuse))
    short = rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (short, b"{}", b'{"kty": "RSA"}', b"s3cret"):
        endpoint.key.client_key_file.write_bytes(content)
        with pytest.raises(Misconfigured, match="not an RSA private key in PEM or JWK") as caught:
            await account.tried(endpoint, facility([]))
        assert "s3cret" not in str(caught.value)
    endpoint.key.client_id_file.write_text("two words")
    with pytest.raises(NacreError, match="does not hold one word"):
        await account.tried(endpoint, facility([]))
