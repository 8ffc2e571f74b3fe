"""The Superfacility client against answers of every kind, good and bad, over httpx's own transport seam."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.runtime.errors import Malformed, Misconfigured, NacreError, Overloaded, RateLimited, Refused, Unreachable
from libs.slurm.access import ApiClientKey
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.superfacility import Endpoint, SuperfacilityClient, connected
from libs.slurm.transport import Bounds, retry_after_s
from tests.unit.slurm import golden

TOKEN_URL = "https://oidc.test/token"
API_URL = "https://api.test/api/v1.2"
JOBS = "/api/v1.2/compute/jobs/perlmutter"
SCRIPT = "#!/bin/bash\n#SBATCH -J nacre-x\ntrue\n"

Respond = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)  # fmt: skip


def ok(body: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body).encode(), headers=headers)


def listed(rows: list[dict[str, str]]) -> httpx.Response:
    return ok({"status": "OK", "output": rows, "error": None})


def not_found(_: httpx.Request) -> httpx.Response:
    return ok({"detail": "Not found"}, 404)


class Outside:
    """The API's side of the wire: notes every request; each path is answered by a function, the rest by 404."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []
        self.answers: dict[tuple[str, str], Respond] = {}
        self.tokens_sold = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.seen.append(request)
        if str(request.url) == TOKEN_URL and ("POST", "token") not in self.answers:
            self.tokens_sold += 1
            return ok({"access_token": f"token-{self.tokens_sold}", "expires_in": 600})
        path = "token" if str(request.url) == TOKEN_URL else request.url.path
        answer = self.answers.get((request.method, path), not_found)(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def on(self, method: str, path: str, respond: Respond) -> None:
        self.answers[(method, path)] = respond

    def task(self, *bodies: httpx.Response) -> None:
        """The task 7 answers with these bodies in turn, the last one for ever."""
        left = list(bodies)
        self.on("GET", "/api/v1.2/tasks/7", lambda _: left.pop(0) if len(left) > 1 else copy(left[0]))
        self.on("POST", JOBS, lambda _: ok({"status": "OK", "task_id": "7", "error": None}))
        self.on("DELETE", f"{JOBS}/16_3", lambda _: ok({"status": "OK", "task_id": "7", "error": None}))

    def count(self, method: str, path: str) -> int:
        return sum(request.method == method and request.url.path == path for request in self.seen)


def copy(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, content=response.content, headers=response.headers)


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    (tmp_path / "id").write_text("abcdefghijklm\n")
    (tmp_path / "key.pem").write_bytes(PEM)
    return Endpoint(
        machine="perlmutter",
        api_url=API_URL,
        token_url=TOKEN_URL,
        key=ApiClientKey(client_id_file=tmp_path / "id", client_key_file=tmp_path / "key.pem"),
        user_agent="nacre/0 (ops@site.test)",
        rate_per_s=1000.0,
        task_poll_s=0.01,
        task_patience_s=0.5,
        bounds=Bounds(total_s=5.0, answer_bytes=200_000),
    )


@pytest.fixture
async def client(outside: Outside, endpoint: Endpoint) -> AsyncIterator[SuperfacilityClient]:
    async with connected(endpoint, httpx.MockTransport(outside)) as client:
        yield client


def claims_of(request: httpx.Request) -> tuple[dict[str, list[str]], dict[str, object]]:
    form = parse_qs(request.content.decode())
    public = PRIVATE.public_key()
    return form, jwt.decode(form["client_assertion"][0], public, algorithms=["RS256"], audience=TOKEN_URL)


async def test_the_token_is_bought_with_a_signed_assertion(client: SuperfacilityClient, outside: Outside) -> None:
    """The form and the claims are those of the reference, and every request says who we are."""
    outside.on("GET", JOBS, lambda _: listed([]))
    await client.listing("alicepro")
    form, claims = claims_of(outside.seen[0])
    assert form["grant_type"] == ["client_credentials"]
    assert form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    assert claims["iss"] == claims["sub"] == "abcdefghijklm"
    assert len(str(claims["jti"])) == 36
    assert outside.seen[1].headers["authorization"] == "Bearer token-1"
    assert {request.headers["user-agent"] for request in outside.seen} == {"nacre/0 (ops@site.test)"}


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o640, 0o444])
async def test_any_mode_of_the_key_file_and_a_jwk_will_do(
    client: SuperfacilityClient, outside: Outside, endpoint: Endpoint, mode: int
) -> None:
    """Kubernetes' modes are accepted, and a JWK as Iris gives it serves as well as PEM."""
    outside.on("GET", JOBS, lambda _: listed([]))
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(PRIVATE)
    endpoint.key.client_key_file.write_text(jwk)
    endpoint.key.client_key_file.chmod(mode)
    assert (await client.listing("alicepro")).complete
    assert claims_of(outside.seen[0])[1]["sub"] == "abcdefghijklm"


async def test_the_token_is_kept_and_a_renewed_key_is_seen(
    outside: Outside, endpoint: Endpoint, client: SuperfacilityClient
) -> None:
    """One token serves many requests at once; the id and key files are read again at the next purchase."""
    outside.on("GET", JOBS, lambda _: listed([]))
    await asyncio.gather(*(client.listing("alicepro") for _ in range(8)))
    assert outside.tokens_sold == 1
    endpoint.key.client_id_file.write_text("nopqrstuvwxyz")
    answers = iter([ok({"detail": "Not authenticated"}, 401), listed([])])
    outside.on("GET", JOBS, lambda _: next(answers))
    assert (await client.listing("alicepro")).complete
    assert claims_of(outside.seen[-2])[1]["sub"] == "nopqrstuvwxyz"


async def test_a_token_near_its_end_is_replaced(outside: Outside, client: SuperfacilityClient) -> None:
    """A token that lives 0.1 s is not used after half of that."""
    outside.on("POST", "token", lambda _: ok({"access_token": "short", "expires_in": 0.1}))
    outside.on("GET", JOBS, lambda _: listed([]))
    await client.listing("alicepro")
    await asyncio.sleep(0.1)
    await client.listing("alicepro")
    assert sum(str(request.url) == TOKEN_URL for request in outside.seen) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_refused_twice_is_refused(outside: Outside, client: SuperfacilityClient, status: int) -> None:
    """After one new token the refusal stands, with advice, and no third request."""
    outside.on("GET", JOBS, lambda _: ok({"detail": "Not authenticated"}, status))
    with pytest.raises(Refused, match=r"Not authenticated.*Iris"):
        await client.listing("alicepro")
    assert (outside.count("GET", JOBS), outside.tokens_sold) == (2, 2)


async def test_an_expired_client_is_refused_with_advice(outside: Outside, client: SuperfacilityClient) -> None:
    """invalid_client says what an operator has to look at, and never the assertion."""
    outside.on("POST", "token", lambda _: ok({"error": "invalid_client"}, 401))
    with pytest.raises(Refused, match=r"invalid_client.*expired.*ranges") as caught:
        await client.listing("alicepro")
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"access_token": 3}'])
async def test_a_token_answer_of_another_shape_is_malformed(
    outside: Outside, client: SuperfacilityClient, body: bytes
) -> None:
    """What is no token is not used as one."""
    outside.on("POST", "token", lambda _: httpx.Response(200, content=body))
    with pytest.raises(Malformed, match="not a token"):
        await client.listing("alicepro")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("id", b"", "is empty"),
        ("id", b"two words", "one word"),
        ("key.pem", b"not a key", "Iris"),
        ("key.pem", b'{"kty": "oct", "k": "c2VjcmV0"}', "Iris"),
        ("key.pem", b"{", "Iris"),
        ("key.pem", None, "cannot be read"),
    ],
)
async def test_a_wrong_secret_file_is_misconfigured(
    client: SuperfacilityClient, tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    """The file is named, its content is not."""
    path = tmp_path / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as caught:
        await client.listing("alicepro")
    assert str(path) in str(caught.value)
    assert content is None or not content or content.decode() not in str(caught.value)


async def test_a_listing_asks_for_everything_uncached(client: SuperfacilityClient, outside: Outside) -> None:
    """One request with user, no cache and a limit; the rows come back typed, with the instant before asking."""
    outside.on("GET", JOBS, lambda _: listed(golden.rows("squeue-every-state.txt")[:3]))
    before = datetime.now(UTC)
    listing = await client.listing("root")
    assert listing.complete and listing.why_not == ""
    assert before <= listing.listed_at <= datetime.now(UTC)
    assert [row.array_job_id for row in listing.rows] == [6, 6, 6]
    query = parse_qs(outside.seen[-1].url.query.decode())
    assert (query["cached"], query["sacct"], query["kwargs"]) == (["false"], ["false"], ["user=root"])


async def test_a_listing_with_faults_is_not_complete(client: SuperfacilityClient, outside: Outside) -> None:
    """A cut list, a slipped row, or as many rows as asked for: not complete, and it says why."""
    outside.on("GET", JOBS, lambda _: listed(golden.rows("squeue-live.txt")))
    listing = await client.listing("root")
    assert not listing.complete
    assert "cut short" in listing.why_not
    assert len(listing.rows) > 5


async def test_as_many_rows_as_asked_for_is_not_complete(outside: Outside, endpoint: Endpoint) -> None:
    """A listing that reaches the limit may go on behind it."""
    rows = golden.rows("squeue-every-state.txt")[:5]
    outside.on("GET", JOBS, lambda _: listed(rows + [{} for _ in range(4)]))
    async with connected(msgspec.structs.replace(endpoint, rows_limit=9), httpx.MockTransport(outside)) as client:
        listing = await client.listing("root")
    assert not listing.complete
    assert "there may be more" in listing.why_not and "and 2 more" in listing.why_not


async def test_rows_of_other_users_are_not_ours(client: SuperfacilityClient, outside: Outside) -> None:
    """A facility that ignores the user filter does not add other people's jobs to ours."""
    outside.on("GET", JOBS, lambda _: listed(golden.rows("squeue-every-state.txt")[:3]))
    assert (await client.listing("alicepro")).rows == ()


async def test_sacct_by_ids_and_names_in_bulk(client: SuperfacilityClient, outside: Outside) -> None:
    """400 ids are three requests, each with the user and the window in the machine's zone; the rows are joined."""
    outside.on("GET", JOBS, lambda _: listed(golden.rows("sacct-by-id.txt")[:1]))
    since = datetime(2026, 11, 23, tzinfo=UTC)
    listing = await client.accounting("root", since=since, job_ids=[str(number) for number in range(400)])
    assert (outside.count("GET", JOBS), len(listing.rows), listing.complete) == (3, 3, True)
    query = parse_qs(outside.seen[1].url.query.decode())
    assert query["sacct"] == ["true"]
    assert query["kwargs"][:2] == ["user=root", "starttime=2026-11-23T00:00:00"]
    assert query["kwargs"][2].startswith("jobid=0,1,2,")
    await client.accounting("root", since=since, names=["a", "b"])
    assert parse_qs(outside.seen[-1].url.query.decode())["kwargs"][2] == "name=a,b"
    await client.accounting("root", since=since)
    assert len(parse_qs(outside.seen[-1].url.query.decode())["kwargs"]) == 2


def _broken(error: type[httpx.TransportError]) -> Respond:
    def respond(request: httpx.Request) -> httpx.Response:
        raise error("gone", request=request)

    return respond


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (lambda _: ok({"status": "ERROR", "output": [], "error": "Unable to contact slurm controller"}), Overloaded),
        (lambda _: ok({"detail": "bad gateway"}, 502), Overloaded),
        (lambda _: ok({}, 500), Overloaded),
        (lambda _: ok({}, 408), Overloaded),
        (lambda _: ok({}, 429), RateLimited),
        (lambda _: ok({"detail": "validation"}, 422), Refused),
        (lambda _: ok({}, 404), Refused),
        (lambda _: ok({}, 302, location="https://elsewhere.test"), Misconfigured),
        (lambda _: httpx.Response(200, content=b"<html>"), Malformed),
        (lambda _: httpx.Response(200, content=b"x" * 200_001), Malformed),
        (lambda _: httpx.Response(200, content=b"junk", headers={"content-encoding": "gzip"}), Unreachable),
        (_broken(httpx.ConnectError), Unreachable),
        (_broken(httpx.ConnectTimeout), Unreachable),
        (_broken(httpx.ReadTimeout), Unreachable),
        (_broken(httpx.RemoteProtocolError), Unreachable),
    ],
)
async def test_a_failed_listing_raises(
    client: SuperfacilityClient, outside: Outside, respond: Respond, error: type[NacreError]
) -> None:
    """Each failure of a read is its error of the tree; none is a listing."""
    outside.on("GET", JOBS, respond)
    with pytest.raises(error):
        await client.listing("alicepro")


async def test_an_answer_that_never_ends_is_bounded(outside: Outside, endpoint: Endpoint) -> None:
    """The whole exchange has a bound, beyond the pauses between bytes that httpx watches."""

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        return listed([])

    outside.on("GET", JOBS, slow)
    bounded = msgspec.structs.replace(endpoint, bounds=Bounds(total_s=0.1))
    async with connected(bounded, httpx.MockTransport(outside)) as client:
        with pytest.raises(Unreachable, match="TimeoutError"):
            await client.listing("alicepro")


async def test_retry_after_is_obeyed(client: SuperfacilityClient, outside: Outside) -> None:
    """After a 429 with Retry-After no request leaves before its time: a long one raises at once."""
    outside.on("GET", JOBS, lambda _: ok({}, 429, **{"retry-after": "120"}))
    with pytest.raises(RateLimited) as caught:
        await client.listing("alicepro")
    assert caught.value.retry_after_s == 120
    with pytest.raises(RateLimited, match="rate is taken"):
        await client.listing("alicepro")
    assert outside.count("GET", JOBS) == 1


async def test_the_rate_is_shared_out(outside: Outside, endpoint: Endpoint) -> None:
    """Beyond the burst, requests leave one by one at the configured rate."""
    outside.on("GET", JOBS, lambda _: listed([]))
    slow = msgspec.structs.replace(endpoint, rate_per_s=20.0)
    async with connected(slow, httpx.MockTransport(outside)) as client:
        started_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(client.listing("alicepro") for _ in range(8)))
        assert asyncio.get_running_loop().time() - started_s >= 0.15


def test_retry_after_as_number_or_date() -> None:
    """Seconds or an HTTP date; anything else is as if absent."""
    now = datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC)
    assert retry_after_s("7", now) == 7.0
    assert retry_after_s("Mon, 23 Nov 2026 03:01:00 GMT", now) == 60.0
    assert retry_after_s("Mon, 23 Nov 2026 02:00:00", now) == 0.0
    assert retry_after_s("soon", now) is None
    assert retry_after_s(None, now) is None


NEW = ok({"id": "7", "status": "new", "result": None})
DONE = ok({"id": "7", "status": "completed", "result": '{"status": "ok", "jobid": "123", "error": null}'})


async def test_a_submission_is_one_post_and_its_task(client: SuperfacilityClient, outside: Outside) -> None:
    """The script goes as a form, once; the task is followed through early 500s to the job id."""
    outside.task(ok({}, 500), ok({"detail": "Not found"}, 404), NEW, httpx.Response(200, content=b"?"), DONE)
    assert await client.submit(SCRIPT) == Accepted(job_id="123")
    assert outside.count("POST", JOBS) == 1
    form = parse_qs(next(request for request in outside.seen if request.url.path == JOBS).content.decode())
    assert form == {"job": [SCRIPT], "isPath": ["false"]}


_QOS = "Batch job submission failed: Invalid qos specification"
FAILED = ok({"id": "7", "status": "failed", "result": json.dumps({"status": "error", "error": _QOS})})


@pytest.mark.parametrize(
    ("bodies", "outcome"),
    [
        ([FAILED], Refusal),
        ([NEW], Unclear),
        ([ok({}, 500)], Unclear),
        ([ok({}, 404)], Unclear),
        ([ok({"status": "completed", "result": None})], Unclear),
        ([ok({"status": "completed", "result": '{"status": "ok", "jobid": "many"}'})], Unclear),
        ([ok({"status": "failed", "result": "Socket timed out on send/recv operation"})], Unclear),
    ],
)
async def test_what_a_task_can_come_to(
    client: SuperfacilityClient, outside: Outside, bodies: list[httpx.Response], outcome: type[Outcome]
) -> None:
    """Refused only by Slurm's own words; endless, vanished, silent or odd tasks are unclear; the POST left once."""
    outside.task(*bodies)
    assert isinstance(await client.submit(SCRIPT), outcome)
    assert outside.count("POST", JOBS) == 1


@pytest.mark.parametrize(
    "respond",
    [
        _broken(httpx.ReadTimeout),
        _broken(httpx.WriteTimeout),
        _broken(httpx.ReadError),
        _broken(httpx.WriteError),
        _broken(httpx.RemoteProtocolError),
        lambda _: ok({}, 500),
        lambda _: ok({}, 502),
        lambda _: ok({}, 504),
        lambda _: ok({}, 408),
        lambda _: httpx.Response(200, content=b"<html>accepted</html>"),
        lambda _: httpx.Response(200, content=b"x" * 200_001),
        lambda _: ok({"status": "OK", "task_id": None, "error": None}),
        lambda _: ok({"status": "ERROR", "task_id": "", "error": "what?"}),
        lambda _: ok({}, 302),
    ],
)
async def test_a_lost_answer_is_unclear(client: SuperfacilityClient, outside: Outside, respond: Respond) -> None:
    """When the request may have left, the outcome is unclear and nothing is sent again."""
    outside.on("POST", JOBS, respond)
    assert isinstance(await client.submit(SCRIPT), Unclear)
    assert outside.count("POST", JOBS) == 1


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_no_connection_is_unreachable(
    client: SuperfacilityClient, outside: Outside, failure: type[httpx.TransportError]
) -> None:
    """Before a byte left, the error says so, and the caller may simply come again."""
    outside.on("POST", JOBS, _broken(failure))
    with pytest.raises(Unreachable):
        await client.submit(SCRIPT)


@pytest.mark.parametrize(
    ("respond", "error"),
    [(_broken(httpx.ReadTimeout), Unreachable), (lambda _: ok({}), Malformed), (lambda _: ok({}, 500), Overloaded)],
)
async def test_no_token_means_nothing_left(
    client: SuperfacilityClient, outside: Outside, respond: Respond, error: type[NacreError]
) -> None:
    """When the token cannot be had, no POST was tried, and the outcome is an error, not unclear."""
    outside.on("POST", "token", respond)
    with pytest.raises(error):
        await client.submit(SCRIPT)
    assert outside.count("POST", JOBS) == 0


async def test_a_post_that_is_told_to_wait_is_rate_limited(client: SuperfacilityClient, outside: Outside) -> None:
    """HTTP 429 to a POST: nothing was done, and when to come back is passed on."""
    outside.on("POST", JOBS, lambda _: ok({}, 429, **{"retry-after": "3"}))
    with pytest.raises(RateLimited) as caught:
        await client.submit(SCRIPT)
    assert caught.value.retry_after_s == 3
    assert outside.count("POST", JOBS) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ok({"detail": "Not authenticated"}, 401), RefusalKind.AUTHENTICATION),
        (ok({"detail": "scope"}, 403), RefusalKind.AUTHENTICATION),
        (ok({"detail": "validation error"}, 422), RefusalKind.OTHER),
        (ok({"error": "perlmutter is under maintenance"}, 400), RefusalKind.MAINTENANCE),
        (ok({"status": "ERROR", "error": "Invalid account"}), RefusalKind.ACCOUNT),
    ],
)
async def test_a_refused_post_is_refused_once(
    client: SuperfacilityClient, outside: Outside, answer: httpx.Response, kind: RefusalKind
) -> None:
    """A POST is never repeated, also not with a new token; the next one gets one."""
    outside.on("POST", JOBS, lambda _: copy(answer))
    outcome = await client.submit(SCRIPT)
    assert isinstance(outcome, Refusal) and outcome.kind is kind
    assert outside.count("POST", JOBS) == 1
    await client.submit(SCRIPT)
    assert outside.tokens_sold == (2 if kind is RefusalKind.AUTHENTICATION else 1)


async def test_an_absurd_script_does_not_leave(client: SuperfacilityClient, outside: Outside) -> None:
    """A script beyond the bound is refused here."""
    outcome = await client.submit("#" * 1_000_001)
    assert isinstance(outcome, Refusal) and outcome.kind is RefusalKind.SCRIPT
    assert outside.seen == []


async def test_cancelling_an_array_task(client: SuperfacilityClient, outside: Outside) -> None:
    """DELETE by id, its task followed."""
    outside.task(NEW, ok({"status": "completed", "result": '{"status": "ok", "output": ""}'}))
    assert await client.cancel("16_3") == Accepted(job_id="16_3")
    assert outside.count("DELETE", f"{JOBS}/16_3") == 1


async def test_status_and_outages_need_no_token(client: SuperfacilityClient, outside: Outside) -> None:
    """The facility's word can be had when our client has expired."""
    outside.on("GET", "/api/v1.2/status/perlmutter", lambda _: ok({"name": "perlmutter", "status": "degraded"}))
    outside.on("GET", "/api/v1.2/status/outages/planned/perlmutter", lambda _: ok([]))
    assert (await client.facility.facility_status()).status == "degraded"
    assert await client.facility.planned_outages() == ()
    assert outside.tokens_sold == 0
