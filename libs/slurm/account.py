"""What the facility says of the API client itself: is it good for an access token, and when does it end.

Sources: https://docs.nersc.gov/services/sfapi/authentication/; GET /account/clients of the API's OpenAPI.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import msgspec

from libs.runtime import clock
from libs.runtime.errors import Malformed, NacreError
from libs.slurm.rate import RateShare
from libs.slurm.superfacility import Endpoint
from libs.slurm.transport import ApiTransport, http_client

PATH = "/account/clients"


class TriedClient(msgspec.Struct, frozen=True, kw_only=True):
    """An API client that has just bought an access token.

    `ends_at` is None when the facility did not say it; `unknown_because` then says why.
    """

    client_id: str
    name: str = ""
    token_bought_at: datetime
    token_ends_at: datetime
    ends_at: datetime | None = None
    unknown_because: str = ""


class _Client(msgspec.Struct, rename="camel"):
    client_id: str
    name: str | None = None
    expires_at: str | None = None


async def tried(endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None) -> TriedClient:
    """Buy an access token with the client in the endpoint's files, and ask for its end.

    Refused when the token endpoint does not take the client, Misconfigured when its files are unfit, Transient errors
    when it cannot be reached.
    """
    async with http_client(endpoint.user_agent, endpoint.bounds, transport) as http:
        api = ApiTransport(
            http,
            api_url=endpoint.api_url,
            token_url=endpoint.token_url,
            key=endpoint.key,
            share=RateShare(endpoint.rate_per_s),
            bounds=endpoint.bounds,
        )
        bought_at = clock.now()
        await api.token()
        bought = TriedClient(
            client_id=endpoint.key.signer().client_id,
            token_bought_at=bought_at,
            token_ends_at=bought_at + timedelta(seconds=api.token_life_s),
        )
        try:
            return _with_end(bought, await api.get(PATH), ZoneInfo(endpoint.time_zone))
        except NacreError as error:
            return msgspec.structs.replace(bought, unknown_because=str(error))


def _with_end(bought: TriedClient, body: bytes, zone: ZoneInfo) -> TriedClient:
    try:
        known = msgspec.json.decode(body, type=list[_Client])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed(f"GET {PATH}: the answer is not the list that the API documents") from None
    ours = [client for client in known if client.client_id == bought.client_id]
    if not ours or ours[0].expires_at is None:
        raise Malformed(f"GET {PATH}: {len(known)} clients are listed, and no end of ours among them")
    return msgspec.structs.replace(bought, name=ours[0].name or "", ends_at=_instant(ours[0].expires_at, zone))


def _instant(text: str, zone: ZoneInfo) -> datetime:
    """An instant without a zone is the facility's local time."""
    try:
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=zone)
    except ValueError:
        raise Malformed(f"GET {PATH}: {text[:40]!r} is not an instant") from None
