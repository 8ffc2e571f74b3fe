"""Leases: one active instance of a service, with a fence.

The bucket forgets a key after its time to live; a holder writes anew each third of it. The fence is the revision of the
first write: whoever holds the lease later has a greater one. A holder that cannot renew stops its work before the lease
could be anybody else's. (A process that was stopped cannot know; what it does late is bounded by `void_after`.)
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

from libs.bus.bucket import Bucket
from libs.bus.translate import Conflict
from libs.events.messages import Lease
from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.health import Health
from libs.runtime.tasks import end

Work = Callable[[int], Awaitable[None]]
log = logging.getLogger(__name__)


async def hold(
    bucket: Bucket[Lease], key: str, holder: str, work: Work, *, stop: asyncio.Event, health: Health
) -> None:
    """Wait for the lease `key`, then run `work(fence)`; again after each loss, until `work` returns or `stop` is set.

    A standby is ready and says so in its log. `work` is cancelled when the lease is lost.
    """
    ttl_s = float(bucket.table.ttl_s)
    condition = f"lease {key}"
    health.good(condition)
    waiting = False
    trouble = ""
    while not stop.is_set():
        lease = Lease(holder=holder, token=secrets.token_hex(8), since=clock.now())
        asked_s = clock.monotonic_s()
        try:
            fence = await bucket.write(key, lease, 0)
        except Conflict:
            if not waiting:
                log.info("%s is held by another instance: standing by", condition)
            waiting = True
            await _pause(stop, ttl_s / 3)
            continue
        except Transient as error:
            health.bad(condition, str(error))
            if str(error) != trouble:
                log.warning("%s: %s; trying again", condition, error)
            trouble = str(error)
            await _pause(stop, ttl_s / 3)
            continue
        health.good(condition)
        waiting, trouble = False, ""
        log.info("%s: active, fence %d", condition, fence)
        if await _run_while_held(bucket, key, lease, fence=fence, asked_s=asked_s, work=work):
            return


async def _run_while_held(
    bucket: Bucket[Lease], key: str, lease: Lease, *, fence: int, asked_s: float, work: Work
) -> bool:
    """True when the work ended by itself or was asked to stop; False when the lease was lost."""
    ttl_s = float(bucket.table.ttl_s)
    revision = fence
    task = asyncio.create_task(_all_of(work(fence)))
    try:
        while True:
            await asyncio.wait({task}, timeout=ttl_s / 3)
            if task.done():
                task.result()
                return True
            renewed_s = clock.monotonic_s()
            try:
                revision = await asyncio.wait_for(_renew(bucket, key, lease, revision), ttl_s / 3)
                asked_s = renewed_s
            except Conflict:
                log.error("lease %s was taken by another instance: stopping work", key)
                return False
            except (Transient, TimeoutError):
                if clock.monotonic_s() - asked_s > ttl_s * 2 / 3:
                    log.error("lease %s could not be renewed: stopping work until NATS is back", key)
                    return False
    finally:
        # Work that was cancelled may still finish one exchange with NATS; only then is it told again.
        await end(task, again_s=ttl_s)
        with contextlib.suppress(Transient, TimeoutError):
            await asyncio.wait_for(bucket.delete(key, revision), ttl_s / 3)


async def _all_of(work: Awaitable[None]) -> None:
    await work


async def _renew(bucket: Bucket[Lease], key: str, lease: Lease, revision: int) -> int:
    """Write the lease again. An expired key has no last sequence any more: a late renewal is a Conflict."""
    return await bucket.write(key, lease, revision)


async def _pause(stop: asyncio.Event, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), for_s)
