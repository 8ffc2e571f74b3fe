"""Looking on: what streams hold, and what is published just now. For operators, not for services."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from opentelemetry import trace

from libs.bus.translate import trace_context, translated
from libs.events.rows import PREFIX, Stream

ANSWER_S = 5.0
GLANCE_S = 0.2


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it went over the bus; `trace` is its W3C trace id, empty without one."""

    subject: str
    body: bytes
    trace: str = ""


async def history(js: JetStreamContext, stream: Stream, pattern: str, since: datetime) -> AsyncGenerator[Seen, None]:
    """Messages of a stream under a pattern since an instant, oldest first; ends where the stream ended at the call."""
    config = api.ConsumerConfig(deliver_policy=api.DeliverPolicy.BY_START_TIME, opt_start_time=since)
    with translated(f"stream {stream.name}"):
        subscription = await js.subscribe(pattern, stream=stream.name, ordered_consumer=True, config=config)
        pending = (await subscription.consumer_info()).num_pending or 0
    try:
        left = pending + subscription.pending_msgs
        while left > 0:
            with translated(f"stream {stream.name}"):
                message = await subscription.next_msg(timeout=ANSWER_S)
            yield _seen(message)
            left = message.metadata.num_pending
    finally:
        with translated(f"stream {stream.name}"):
            await subscription.unsubscribe()


async def tap(nc: Client, stop: asyncio.Event) -> AsyncGenerator[Seen, None]:
    """Every message of ours from now on."""
    with translated("subscribe to everything"):
        subscription = await nc.subscribe(f"{PREFIX}.>")
        await nc.flush(timeout=int(ANSWER_S))
    try:
        while not stop.is_set() and not nc.is_closed:
            try:
                yield _seen(await subscription.next_msg(timeout=GLANCE_S))
            except nats.errors.TimeoutError:
                continue
    finally:
        if not nc.is_closed:
            await subscription.unsubscribe()


def _seen(message: Msg) -> Seen:
    context = trace.get_current_span(trace_context(message.headers)).get_span_context()
    trace_id = trace.format_trace_id(context.trace_id) if context.is_valid else ""
    return Seen(subject=message.subject, body=message.data, trace=trace_id)
