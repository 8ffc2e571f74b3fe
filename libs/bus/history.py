"""Looking on: what streams hold, and what is published just now. For operators, not for services."""

import asyncio
import contextlib
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
    async for seen in _read(js, stream.name, pattern, config):
        yield seen


async def newest(js: JetStreamContext, stream: str, pattern: str) -> AsyncGenerator[Seen, None]:
    """The last message of each subject of a stream under a pattern; of a bucket's stream, each key's last write."""
    config = api.ConsumerConfig(deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT)
    async for seen in _read(js, stream, pattern, config):
        yield seen


async def _read(
    js: JetStreamContext, stream: str, pattern: str, config: api.ConsumerConfig
) -> AsyncGenerator[Seen, None]:
    with translated(f"stream {stream}"):
        subscription = await js.subscribe(pattern, stream=stream, ordered_consumer=True, config=config)
        info = await subscription.consumer_info()
    try:
        # What was delivered may still be on its way here: the server's two counts together miss nothing.
        left = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        while left > 0:
            with translated(f"stream {stream}"):
                message = await subscription.next_msg(timeout=ANSWER_S)
            yield _seen(message)
            left = message.metadata.num_pending
    finally:
        with translated(f"stream {stream}"):
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


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """One process that answered NATS' discovery request: its service, instance and version."""

    service: str
    instance: str
    version: str


async def answering(nc: Client, within_s: float) -> list[Answering]:
    """The services that answer NATS' discovery request within so many seconds (as `nats micro ls` asks)."""
    found: list[Answering] = []
    inbox = nc.new_inbox()
    with translated("discover services"):
        subscription = await nc.subscribe(inbox)
        await nc.publish("$SRV.PING", reply=inbox)
    try:
        async with asyncio.timeout(within_s):
            while True:
                body = (await subscription.next_msg(timeout=within_s)).data
                with contextlib.suppress(msgspec.MsgspecError):
                    answer = msgspec.json.decode(body, type=_Ping)
                    instance = answer.metadata.get("instance", "")
                    found.append(Answering(service=answer.name, instance=instance, version=answer.version))
    except (TimeoutError, nats.errors.TimeoutError):
        return sorted(found, key=lambda one: (one.service, one.instance))
    finally:
        with translated("discover services"):
            await subscription.unsubscribe()


class _Ping(msgspec.Struct):
    name: str
    version: str
    metadata: dict[str, str] = {}


def _seen(message: Msg) -> Seen:
    context = trace.get_current_span(trace_context(message.headers)).get_span_context()
    trace_id = trace.format_trace_id(context.trace_id) if context.is_valid else ""
    return Seen(subject=message.subject, body=message.data, trace=trace_id)
