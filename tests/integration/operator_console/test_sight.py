"""The house as seen over a real nats-server."""

from datetime import timedelta

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import CentralLimits, DemandObserved, Drain, Lease, Wish
from libs.runtime import clock
from services.operator_console.sight import look


async def test_one_look_sees_what_is_on_the_bus(bus: Bus) -> None:
    """The newest demand, who answers and holds the lease, and the wishes that have not expired; nothing made up."""
    now = clock.now()
    for waiting, age_s in ((3, 60), (7, 1)):
        demand = DemandObserved(
            at=now - timedelta(seconds=age_s),
            by="queue_poller/1",
            ce="cpu",
            waiting=waiting,
            limits=CentralLimits(max_jobs=10, max_queued=5),
        )
        await bus.publish(subjects.DEMAND_OBSERVED, "cpu", demand)
    await bus.register("queue_poller", "1")
    lease = Lease(holder="queue_poller/1", token="t", since=now)
    await bus.bucket(subjects.LEASES_BUCKET).write("queue_poller.active", lease, 0)
    stands = Wish(author="op", reason="maintenance", made_at=now, expires_at=None, what=Drain(ce="cpu"))
    over = Wish(author="op", reason="over", made_at=now, expires_at=now - timedelta(hours=1), what=Drain(ce="gpu"))
    control = bus.bucket(subjects.CONTROL_BUCKET)
    await control.write("drain.cpu", stands, 0)
    await control.write("drain.gpu", over, 0)
    house = await look(bus)
    assert [(state.ce, state.demand and state.demand.waiting, state.batch_queue) for state in house.ces] == [
        ("cpu", 7, None)
    ]
    assert [(one.service, one.instance, one.active) for one in house.instances] == [("queue_poller", "1", True)]
    assert house.wishes == {"drain.cpu": stands}
    assert house.credentials is None
