"""Hints: a call for each message that comes now. Nothing is stored or repeated, since who waits also has a timer."""

import contextlib
from collections.abc import AsyncIterator, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus.translate import translated
from libs.runtime.errors import Transient


@contextlib.asynccontextmanager
async def hinted(nc: Client, subject: str, hint: Callable[[], None]) -> AsyncIterator[None]:
    """Call `hint` for each message on the subject until left; reconnecting subscribes again. Transient at the start."""

    async def arrived(message: Msg) -> None:
        hint()

    with translated(f"subscribe {subject}"):
        subscription = await nc.subscribe(subject, cb=arrived)
    try:
        yield
    finally:
        with contextlib.suppress(Transient), translated(f"unsubscribe {subject}"):
            await subscription.unsubscribe()
