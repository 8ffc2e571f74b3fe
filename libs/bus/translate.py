"""Errors of nats-py into ours, and trace context into headers and back."""

import contextlib
from collections.abc import Iterator, Mapping

import nats.errors
import nats.js.errors
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject

from libs.runtime.errors import Overloaded, Refused, Transient, Unreachable

# https://github.com/nats-io/nats-server/blob/main/server/errors.json
WRONG_LAST_SEQUENCE = (10071, 10164)
NO_SPACE = (10023, 10047, 10077, 10122)


class Conflict(Transient):
    """Somebody else wrote the key since it was read: read it again and decide anew."""


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of nats-py inside become ours; `what` names the attempt in the text."""
    try:
        yield
    except nats.js.errors.NoStreamResponseError as error:
        raise Unreachable(f"{what}: no stream answers; run `nacre bus init` (or NATS is still starting)") from error
    except nats.js.errors.APIError as error:
        if error.err_code in WRONG_LAST_SEQUENCE:
            raise Conflict(f"{what}: written by somebody else") from error
        if isinstance(error, nats.js.errors.NotFoundError):
            raise Unreachable(f"{what}: {error.description}; run `nacre bus init`") from error
        if error.err_code in NO_SPACE:
            raise Overloaded(f"{what}: NATS has no room ({error.description}); see its disk and limits") from error
        raise Overloaded(f"{what}: NATS answered {error.code}/{error.err_code} {error.description}") from error
    except nats.errors.OutboundBufferLimitError as error:
        raise Overloaded(f"{what}: NATS is away and the buffer is full") from error
    except nats.errors.AuthorizationError as error:
        raise Refused(f"{what}: NATS refuses our credentials") from error
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
        raise Unreachable(f"{what}: NATS does not answer ({type(error).__name__})") from error


def trace_headers() -> dict[str, str]:
    """The current span as W3C trace context headers; empty without a span."""
    headers: dict[str, str] = {}
    inject(headers)
    return headers


def trace_context(headers: Mapping[str, str] | None) -> Context:
    """The sender's span context, for a child or a link."""
    return extract(headers or {})
