"""One ACME order, as a process: JSON in, JSON out (ordered.py). Nothing secret passes but by file path.

The library is blocking, retries a bad nonce once by itself, and answers http-01 with its own small server.
"""

import json
import resource
import sys
from collections.abc import Mapping
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
from libs.runtime.errors import Misconfigured, NacreError, Transient

ACCOUNT_KEY = "account_key.pem"
ACCOUNT_KEY_BITS = 2048
REQUEST_TIMEOUT_S = 30
# An authority that answers without end is stopped by this.
MOST_MEMORY_BYTES = 512 << 20
MOST_CHAIN_CHARACTERS = 1 << 18
MOST_TEXT_CHARACTERS = 400
RATE_LIMITED = "rateLimited"
NOT_NOW = ("serverInternal", "badNonce")
TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


class _Network(client.ClientNetwork):
    """Remembers what an answer said about coming back."""

    retry_after = ""

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        self.retry_after = response.headers.get("Retry-After", "")
        return response


def main() -> None:
    """Carry out the order that is described on standard input; say what became of it on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    work = json.load(sys.stdin)
    json.dump(answer(work), sys.stdout)


def answer(work: Mapping[str, Any]) -> dict[str, Any]:
    """The chain, or the kind of failure with its words."""
    network = _Network(user_agent=work["user_agent"], timeout=REQUEST_TIMEOUT_S)
    if work["ca"]:
        network.verify_ssl = work["ca"]
    try:
        network.key = key = _account_key(Path(work["account_directory"]))
        chain = _ordered(work, network, key)
    except messages.Error as error:
        return _problem(error, network.retry_after)
    except errors.ValidationError as error:
        return _failed(
            "refused", f"http-01 failed: {_challenge_errors(error)}; is port 80 led to {work['http01_listen']}?"
        )
    except errors.TimeoutError:
        return _failed("overloaded", f"the order was not done in {work['patience_s']:g} s")
    except errors.IssuanceError as error:
        return _problem(error.error, network.retry_after)
    except requests.exceptions.SSLError as error:
        return _failed("misconfigured", f"its certificate cannot be trusted ({type(error).__name__}); is `ca` right?")
    except requests.exceptions.RequestException as error:
        return _failed("unreachable", f"no answer ({type(error).__name__})")
    except NacreError as error:
        return _failed("overloaded" if isinstance(error, Transient) else "misconfigured", str(error))
    except OSError as error:
        return _failed("misconfigured", f"http-01 cannot listen at {work['http01_listen']}: {error.strerror}")
    except errors.ClientError as error:
        return _http_failure(error, network.retry_after)
    # What an authority answers becomes objects without checks: nonsense shows as any of these.
    except (errors.Error, JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        return _failed("malformed", f"it answered nonsense ({type(error).__name__}: {error})")
    if len(chain) > MOST_CHAIN_CHARACTERS:
        return _failed("malformed", f"it sent a chain of {len(chain)} characters")
    return {"chain_pem": chain}


def _ordered(work: Mapping[str, Any], network: _Network, key: JWKRSA) -> str:
    directory = client.ClientV2.get_directory(work["directory_url"], network)
    authority = client.ClientV2(directory, network)
    _take_account(authority, work, key)
    order = authority.new_order(work["csr_pem"].encode())
    resources = set()
    answers = []
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        challenge = _http01(authorization)
        response, validation = challenge.response_and_validation(key)
        resources.add(standalone.HTTP01RequestHandler.HTTP01Resource(challenge.chall, response, validation))
        answers.append((challenge, response))
    host, _, port = work["http01_listen"].rpartition(":")
    servers = standalone.HTTP01DualNetworkedServers(
        ("" if host == "0.0.0.0" else host.strip("[]"), int(port)), resources
    )
    servers.serve_forever()
    try:
        for challenge, response in answers:
            authority.answer_challenge(challenge, response)
        # The library compares with local time without a zone.
        deadline = clock.now().astimezone().replace(tzinfo=None) + timedelta(seconds=work["patience_s"])
        return str(authority.poll_and_finalize(order, deadline).fullchain_pem)
    finally:
        servers.shutdown_and_server_close()


def _take_account(authority: client.ClientV2, work: Mapping[str, Any], key: JWKRSA) -> None:
    """Register, or find the registration that our key has already."""
    binding = None
    if work["eab_key_id"]:
        hmac_key = secret_file.read_secret(Path(work["eab_key_file"]), "EAB key", private=True).decode().strip()
        binding = messages.ExternalAccountBinding.from_data(
            account_public_key=key.public_key(),
            kid=work["eab_key_id"],
            hmac_key=hmac_key,
            directory=authority.directory,
        )
    registration = messages.NewRegistration.from_data(
        email=work["contact"], terms_of_service_agreed=True, external_account_binding=binding
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


def _problem(error: messages.Error, retry_after: str) -> dict[str, Any]:
    text = f"{error.code}: {error.detail}"
    if error.code == RATE_LIMITED:
        return _failed("rate_limited", text, retry_after)
    return _failed("overloaded" if error.code in NOT_NOW else "refused", text)


def _http_failure(error: errors.ClientError, retry_after: str) -> dict[str, Any]:
    response = error.args[0] if error.args else None
    status = response.status_code if isinstance(response, requests.Response) else 0
    if status == TOO_MANY_REQUESTS:
        return _failed("rate_limited", "HTTP 429", retry_after)
    if status >= SERVER_ERROR:
        return _failed("overloaded", f"HTTP {status}")
    return _failed(
        "malformed", f"HTTP {status}, and no answer of ACME's" if status else f"it answered nonsense ({error})"
    )


def _challenge_errors(error: errors.ValidationError) -> str:
    found = [
        f"{authorization.body.identifier.value}: {challenge.error.detail}"
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    return "; ".join(dict.fromkeys(found))


def _failed(kind: str, text: str, retry_after: str = "") -> dict[str, Any]:
    shown = "".join(letter if letter.isprintable() else " " for letter in text)[:MOST_TEXT_CHARACTERS]
    seconds = float(retry_after) if retry_after.isascii() and retry_after.strip().isdigit() else None
    return {"kind": kind, "text": shown, "retry_after_s": seconds}


if __name__ == "__main__":
    main()
