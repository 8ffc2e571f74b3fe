"""GetTokenCertificate: a job agent's certificate and key."""

import asyncio
import datetime as dt

from cryptography import x509

from tests.world.central_services.java_classes import certificate, private_key
from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_nodes import Array, Constant, Instance, StreamFault, Value
from tests.world.central_services.java_values import held
from tests.world.central_services.peer import Peer
from tests.world.central_services.pki import Authority
from tests.world.central_services.principals import can_become

TOKEN = "alien.api.token.GetTokenCertificate"
_FRAME = (TOKEN, "run", 243)
_USER_CERT_MISSING = "When issuing a user certificate you need to pass the current one"


async def issue(request: Instance, peer: Peer, authority: Authority) -> None:
    """Fills the certificate and the key into the request. Raises Thrown."""
    kind, principal = request.fields["certificateType"], request.fields["requester_euid"]
    if not (isinstance(kind, Constant) and kind.name == "JOB_AGENT_TOKEN"):
        raise Thrown("java.lang.IllegalArgumentException", "This world issues job agents' tokens only", _FRAME)
    if not can_become(principal, "vobox"):
        message = "You don't have permissions to ask for a JobAgent token"
        raise Thrown("java.lang.IllegalArgumentException", message, _FRAME)
    caps = [peer.certificate.not_valid_after_utc, _user_certificate(principal).not_valid_after_utc]
    validity = request.fields["validity"]
    made, key = await asyncio.to_thread(
        authority.job_agent,
        validity_days=validity if isinstance(validity, int) else 0,
        caps=caps,
        now=dt.datetime.now(dt.UTC),
    )
    request.fields["certificate"], request.fields["privateKey"] = certificate(made), private_key(key)


def _user_certificate(principal: Value) -> x509.Certificate:
    chain = held(principal, "usercert")
    if isinstance(chain, Array) and isinstance(chain.items, list) and chain.items:
        first = chain.items[0]
        data = held(first, "data")
        if isinstance(data, Array) and isinstance(data.items, bytes):
            try:
                return x509.load_der_x509_certificate(data.items)
            except ValueError as error:
                raise StreamFault("the user's certificate cannot be read") from error
    raise Thrown("java.lang.IllegalArgumentException", _USER_CERT_MISSING, _FRAME)
