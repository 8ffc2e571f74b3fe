"""HTTP to the Superfacility API: one request, bounded in time, size, rate and number, its errors translated.

Reads may be asked again by whoever wants to; a request with an effect leaves once. What matters for an effect is
whether any byte may have left: `Unreachable` itself says that none did, its subclass `AnswerLost` that it is not known.
"""

import asyncio
import email.utils
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import httpx
import msgspec

from libs.runtime import clock
from libs.runtime.errors import Malformed, Misconfigured, Overloaded, RateLimited, Refused, Unreachable
from libs.slurm.access import ASSERTION_TYPE, ApiClientKey, Signer, TokenCache
from libs.slurm.errors import AnswerLost, NotFound
from libs.slurm.rate import RateShare
from libs.slurm.tally import Tally

Params = Mapping[str, str | int | Sequence[str]]
Files = Mapping[str, tuple[str, bytes]]

_CLIENT_ADVICE = (
    "the API client may be expired, its key another one, or we come from an address that is not in its IP ranges "
    "(on Spin the client needs the preset Spin), or our clock is wrong: look at it in Iris, make a new one there, and "
    "install it with `nacre credentials install-client`"
)
NOT_AUTHENTICATED = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
_COME_BACK_LATER = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS})
_LONGEST_CLOSURE_S = 600.0
_DETAIL_LIMIT = 300


_KINDS = {AnswerLost: "answer lost", Malformed: "answer too large"}


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how large one exchange may be. `total_s` bounds all of it, the others its parts."""

    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 90.0
    answer_bytes: int = 64 << 20
    concurrency: int = 4


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of whatever status; `retry_after_s` when it said so."""

    status: int
    body: bytes
    retry_after_s: float | None = None

    def detail(self) -> str:
        """What an error answer says about itself, short; empty when it is not JSON of the API's shape."""
        try:
            body = msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        found = [body[key] for key in ("error_description", "detail", "error", "message") if body.get(key)]
        return str(found[0])[:_DETAIL_LIMIT] if found else ""


class ApiTransport:
    """One API client's requests. Owns no connection: the httpx client is the caller's to close."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        api_url: str,
        token_url: str,
        key: ApiClientKey,
        share: RateShare,
        bounds: Bounds,
    ) -> None:
        self._http = http
        self._api_url = api_url.rstrip("/")
        self._token_url = token_url
        self._share = share
        self._bounds = bounds
        self._places = asyncio.Semaphore(bounds.concurrency)
        self._tokens = TokenCache(key, self._buy_token)
        self.tally = Tally()

    async def get(self, path: str, params: Params | None = None, *, signed: bool = True) -> bytes:
        """The body of a 2xx answer to a read. A 401 or 403 buys one new token and asks once more.

        Raises Unreachable, RateLimited, Overloaded, Refused (NotFound for 404), Malformed when the answer is too large.
        """
        return await self.repeatable("GET", path, params=params, signed=signed)

    async def repeatable(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        form: Mapping[str, str] | None = None,
        files: Files | None = None,
        signed: bool = True,
    ) -> bytes:
        """As `get`, for a request of any method that may come twice and do no harm: a command that reads, an upload."""

        async def sent(token: str) -> Answer:
            return await self._send(method, path, params=params, form=form, files=files, token=token)

        token = await self._tokens.token() if signed else ""
        answer = await sent(token)
        if answer.status in NOT_AUTHENTICATED and signed:
            self._tokens.drop(token)
            token = await self._tokens.token()
            answer = await sent(token)
            if answer.status in NOT_AUTHENTICATED:
                self._tokens.drop(token)
        raise_for_status(answer, f"{method} {path}")
        return answer.body

    async def token(self) -> str:
        """A good token, for `effect`. Whatever it raises, nothing with an effect has left."""
        try:
            return await self._tokens.token()
        except AnswerLost as error:
            # A lost token is a lost read: to the effect that wanted it nothing is lost.
            raise Unreachable(str(error)) from error

    @property
    def token_life_s(self) -> float:
        """How long the last access token lives, as the endpoint said; 0 before the first."""
        return self._tokens.life_s

    async def effect(self, method: str, path: str, token: str, form: Mapping[str, str] | None = None) -> Answer:
        """Send a request with an effect, once, and give the answer of whatever status.

        AnswerLost or Malformed: it may have left. Any other error: nothing left.
        """
        answer = await self._send(method, path, form=form, token=token)
        if answer.status in NOT_AUTHENTICATED:
            self._tokens.drop(token)
        return answer

    async def _buy_token(self, signer: Signer) -> bytes:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": signer.assertion(self._token_url, clock.now()),
        }
        answer = await self._exchange(self._http.build_request("POST", self._token_url, data=form))
        if httpx.codes.is_client_error(answer.status) and answer.status not in _COME_BACK_LATER:
            raise Refused(f"the token endpoint refused us ({answer.detail() or answer.status}): {_CLIENT_ADVICE}")
        raise_for_status(answer, "token endpoint")
        return answer.body

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        form: Mapping[str, str] | None = None,
        files: Files | None = None,
        token: str = "",
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # httpx replaces a query by an empty one when params is given but empty; None leaves the URL alone.
        url = self._api_url + path
        request = self._http.build_request(method, url, params=params or None, data=form, files=files, headers=headers)
        async with self._places:
            await self._share.turn()
            answer = await self._exchange(request)
        if answer.status == httpx.codes.TOO_MANY_REQUESTS:
            self._share.close_for(min(answer.retry_after_s or 1.0, _LONGEST_CLOSURE_S))
        return answer

    async def _exchange(self, request: httpx.Request) -> Answer:
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        try:
            answer = await self._exchanged(request)
        except (Unreachable, Malformed) as error:
            self.tally.failed(loop.time(), _KINDS.get(type(error), "no connection"))
            raise
        failure = "" if httpx.codes.is_success(answer.status) else f"HTTP {answer.status}"
        self.tally.answered(loop.time(), loop.time() - asked_s, failure)
        return answer

    async def _exchanged(self, request: httpx.Request) -> Answer:
        where = f"{request.method} {request.url.path}"
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.total_s):
                response = await self._http.send(request, stream=True)
                try:
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > self._bounds.answer_bytes:
                            raise Malformed(f"{where}: the answer is larger than {self._bounds.answer_bytes} bytes")
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable(f"{where}: no connection to {request.url.host} ({_name(error)})") from error
        except (httpx.RequestError, TimeoutError) as error:
            raise AnswerLost(f"{where}: no whole answer from {request.url.host} ({_name(error)})") from error
        return Answer(
            status=response.status_code,
            body=bytes(body),
            retry_after_s=retry_after_s(response.headers.get("retry-after"), clock.now()),
        )


def http_client(
    user_agent: str, bounds: Bounds, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """The httpx client that an ApiTransport wants: all timeouts, no redirects (they would leak the token)."""
    return httpx.AsyncClient(
        headers={"User-Agent": user_agent, "Accept": "application/json"},
        timeout=httpx.Timeout(bounds.read_s, connect=bounds.connect_s),
        limits=httpx.Limits(max_connections=bounds.concurrency + 1, max_keepalive_connections=bounds.concurrency),
        follow_redirects=False,
        transport=transport,
    )


def raise_for_status(answer: Answer, what: str) -> None:
    """Raise the error that a status means; nothing for 2xx."""
    status, detail = answer.status, answer.detail()
    text = f"{what}: HTTP {status}{': ' + detail if detail else ''}"
    if httpx.codes.is_success(status):
        return
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(text, answer.retry_after_s)
    if httpx.codes.is_server_error(status) or status == httpx.codes.REQUEST_TIMEOUT:
        raise Overloaded(text)
    if status in NOT_AUTHENTICATED:
        raise Refused(f"{text}: {_CLIENT_ADVICE}; submitting needs a client of the highest level")
    if status == httpx.codes.NOT_FOUND:
        raise NotFound(text)
    if httpx.codes.is_redirect(status):
        raise Misconfigured(f"{text}: the API answers with a redirect; correct api_url")
    raise Refused(text)


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or an HTTP date. None when absent or unreadable."""
    if not text:
        return None
    if text.isascii() and text.strip().isdigit():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def _name(error: Exception) -> str:
    """The kind of an httpx error and its text, which names hosts and limits but never a header."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
