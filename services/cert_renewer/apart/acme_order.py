"""One ACME order, as a process (process.py). Nothing secret passes but by file path.

The library is blocking, retries a bad nonce once by itself, and answers http-01 with its own small server.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from acme import challenges, client, errors, messages, standalone
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from josepy.errors import Error as JoseError
from josepy.jwk import JWKRSA

from libs.runtime import clock, secret_file
from libs.runtime.errors import Malformed, Misconfigured, NacreError, Overloaded, RateLimited, Refused, Unreachable
from libs.runtime.site.credentials import Acme
from services.cert_renewer.apart.process import carry_out
from services.cert_renewer.apart.work import Order

ACCOUNT_KEY = "account_key.pem"
ACCOUNT_KEY_BITS = 2048
REQUEST_TIMEOUT_S = 30
MOST_CHAIN_CHARACTERS = 1 << 18
RATE_LIMITED = "rateLimited"
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
NOT_NOW = ("serverInternal", "badNonce")
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


class _Network(client.ClientNetwork):
    """Remembers what an answer said about coming back."""

    retry_after = ""

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        self.retry_after = response.headers.get("Retry-After", "")
        return response


def do(work: Order) -> str:
    """The chain as PEM. Errors say what the authority or we did wrong."""
    settings = work.settings
    network = _Network(user_agent=work.user_agent, timeout=REQUEST_TIMEOUT_S)
    if settings.ca is not None:
        # The library hands it on to requests, which takes a path as well.
        network.verify_ssl = str(settings.ca)  # type: ignore[assignment]
    try:
        network.key = key = _account_key(work.account_directory)
        chain = _ordered(work, network, key)
    except messages.Error as error:
        raise _of_problem(error, network.retry_after) from None
    except errors.ValidationError as error:
        words = _challenge_errors(error)
        raise Refused(f"http-01 failed: {words}; is port 80 led to {settings.http01_listen}?") from None
    except errors.TimeoutError:
        raise Overloaded(f"the order was not done in {settings.patience_s:g} s") from None
    except errors.IssuanceError as error:
        raise _of_problem(error.error, network.retry_after) from None
    except requests.exceptions.SSLError as error:
        # Not every TLS error is about trust: one that ran out of this process's memory is not.
        if UNTRUSTED not in str(error):
            raise Unreachable(f"the connection broke ({type(error).__name__})") from None
        raise Misconfigured(f"it cannot be trusted ({type(error).__name__}); is `ca` right?") from None
    except requests.exceptions.RequestException as error:
        raise Unreachable(f"no answer ({type(error).__name__})") from None
    except OSError as error:
        raise Misconfigured(f"http-01 cannot listen at {settings.http01_listen}: {error.strerror}") from None
    except errors.ClientError as error:
        raise _of_http(error, network.retry_after) from None
    # What an authority answers becomes objects without checks: nonsense shows as any of these.
    except (errors.Error, JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Malformed(f"it answered nonsense ({type(error).__name__}: {error})") from None
    if len(chain) > MOST_CHAIN_CHARACTERS:
        raise Malformed(f"it sent a chain of {len(chain)} characters")
    return chain


def _ordered(work: Order, network: _Network, key: JWKRSA) -> str:
    directory = client.ClientV2.get_directory(work.settings.directory_url, network)
    authority = client.ClientV2(directory, network)
    _take_account(authority, work.settings, key)
    order = authority.new_order(work.csr_pem.encode())
    resources = set()
    answers = []
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        challenge = _http01(authorization)
        response, validation = challenge.response_and_validation(key)
        resources.add(standalone.HTTP01RequestHandler.HTTP01Resource(challenge.chall, response, validation))
        answers.append((challenge, response))
    host, _, port = work.settings.http01_listen.rpartition(":")
    servers = standalone.HTTP01DualNetworkedServers(
        ("" if host == "0.0.0.0" else host.strip("[]"), int(port)), resources
    )
    servers.serve_forever()
    try:
        for challenge, response in answers:
            authority.answer_challenge(challenge, response)
        # The library compares with local time without a zone.
        deadline = clock.now().astimezone().replace(tzinfo=None) + timedelta(seconds=work.settings.patience_s)
        return str(authority.poll_and_finalize(order, deadline).fullchain_pem)
    finally:
        servers.shutdown_and_server_close()


def _take_account(authority: client.ClientV2, settings: Acme, key: JWKRSA) -> None:
    """Register, or find the registration that our key has already."""
    binding = None
    if settings.eab_key_file is not None:
        hmac_key = secret_file.read_secret(settings.eab_key_file, "EAB key", private=True).decode().strip()
        binding = messages.ExternalAccountBinding.from_data(
            account_public_key=key.public_key(),
            kid=settings.eab_key_id,
            hmac_key=hmac_key,
            directory=authority.directory,
        )
    registration = messages.NewRegistration.from_data(
        email=settings.contact, terms_of_service_agreed=True, external_account_binding=binding
    )
    try:
        authority.new_account(registration)
    except errors.ConflictError as known:
        authority.net.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())


def _account_key(directory: Path) -> JWKRSA:
    path = directory / ACCOUNT_KEY
    if not path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = rsa.generate_private_key(65537, ACCOUNT_KEY_BITS)
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        secret_file.replace_file(path, pem, "ACME account key", mode=0o400)
    pem = secret_file.read_secret(path, "ACME account key", private=True)
    try:
        return JWKRSA(key=load_pem_private_key(pem, password=None))
    except (ValueError, TypeError):
        raise Misconfigured(f"ACME account key: {path} is no key; remove it, and another account is made") from None


def _http01(authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    for challenge in authorization.body.challenges:
        if isinstance(challenge.chall, challenges.HTTP01):
            return challenge
    raise errors.ClientError(f"no http-01 is offered for {authorization.body.identifier.value}")


def _of_problem(error: messages.Error, retry_after: str) -> NacreError:
    text = f"{error.code}: {error.detail}"
    if error.code == RATE_LIMITED:
        return RateLimited(text, _seconds(retry_after))
    return Overloaded(text) if error.code in NOT_NOW else Refused(text)


def _of_http(error: errors.ClientError, retry_after: str) -> NacreError:
    response = error.args[0] if error.args else None
    status = response.status_code if isinstance(response, requests.Response) else 0
    if status == TOO_MANY_REQUESTS:
        return RateLimited("HTTP 429", _seconds(retry_after))
    if status >= SERVER_ERROR:
        return Overloaded(f"HTTP {status}")
    return Malformed(f"HTTP {status}, and no answer of ACME's" if status else f"it answered nonsense ({error})")


def _challenge_errors(error: errors.ValidationError) -> str:
    found = [
        f"{authorization.body.identifier.value}: {challenge.error.detail}"
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    return "; ".join(dict.fromkeys(found))


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.strip().isdigit() else None


if __name__ == "__main__":
    carry_out(Order, do)
