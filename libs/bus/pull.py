"""Durable consumers: each message is delivered until it is acknowledged, also across restarts of either side."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from opentelemetry.context import Context

from libs.bus.translate import trace_context, translated
from libs.events.rows import Topic
from libs.runtime import clock
from libs.runtime.errors import Malformed, Transient

FETCH_S = 1.0
SILENCE_S = 5.0
ANSWER_S = 5.0

log = logging.getLogger(__name__)


class Delivery:
    """One message: `body`, its `subject`, the sender's trace, and its acknowledgement."""

    def __init__(self, message: Msg, topic: Topic[Any]) -> None:
        self._message = message
        self._topic = topic
        self.body: bytes = message.data
        self.subject: str = message.subject
        self.trace: Context = trace_context(message.headers)

    def decoded(self) -> Any:
        """The typed message; Malformed when the body is not one."""
        if self._topic.message is None:
            raise ValueError(f"{self._topic.name} is binary")
        try:
            return msgspec.json.decode(self.body, type=self._topic.message)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"{self.subject} carries no {self._topic.message.__name__}: {error}") from error

    async def done(self) -> None:
        """Acknowledge, and wait until the server knows: an unacknowledged message comes again."""
        with translated(f"acknowledge {self.subject}"):
            await self._message.ack_sync(timeout=ANSWER_S)


async def deliveries(
    nc: Client,
    js: JetStreamContext,
    topic: Topic[Any],
    durable: str,
    stop: asyncio.Event,
    *,
    ack_wait_s: float,
) -> AsyncGenerator[Delivery, None]:
    """Messages of a topic in order until `stop`, or until our connection is closed for good.

    While NATS is away it waits; a lost consumer is made again.
    """
    trouble = ""
    while not stop.is_set() and not nc.is_closed:
        try:
            with translated(f"consumer {durable} of {topic.name}"):
                subscription = await _subscribe(js, topic, durable, ack_wait_s)
        except Transient as error:
            if str(error) != trouble:
                log.warning("%s; trying again", error)
            trouble = str(error)
            await asyncio.sleep(FETCH_S)
            continue
        trouble = ""
        try:
            async for message in _messages(subscription, stop):
                yield Delivery(message, topic)
        except (nats.errors.Error, nats.js.errors.Error) as error:
            log.info("consumer %s of %s: %s; subscribing again", durable, topic.name, error or type(error).__name__)
            await asyncio.sleep(FETCH_S)
        finally:
            await _leave(subscription)


async def _subscribe(
    js: JetStreamContext, topic: Topic[Any], durable: str, ack_wait_s: float
) -> JetStreamContext.PullSubscription:
    config = api.ConsumerConfig(
        durable_name=durable,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ack_wait_s,
        max_ack_pending=1000,
        filter_subject=topic.pattern,
    )
    return await js.pull_subscribe(topic.pattern, durable=durable, stream=topic.stream.name, config=config)


async def _messages(subscription: JetStreamContext.PullSubscription, stop: asyncio.Event) -> AsyncIterator[Msg]:
    """One at a time: a fetch of several can strand what was already delivered (nats.py issues 392, 986)."""
    heard_s = clock.monotonic_s()
    while not stop.is_set():
        try:
            found = await subscription.fetch(1, timeout=FETCH_S)
        except nats.errors.TimeoutError:
            if clock.monotonic_s() - heard_s > SILENCE_S:
                # A consumer that the server forgot is silent, too: this raises NotFoundError then.
                await subscription.consumer_info()
                heard_s = clock.monotonic_s()
            continue
        heard_s = clock.monotonic_s()
        for message in found:
            yield message


async def _leave(subscription: JetStreamContext.PullSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, nats.js.errors.Error, OSError) as error:
        log.debug("leaving a consumer: %s", error)
