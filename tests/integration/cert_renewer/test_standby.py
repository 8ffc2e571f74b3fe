"""Two instances of cert_renewer on one bus: one works, the other takes over when it is killed."""

import signal

from libs.bus.connection import Bus
from libs.events import subjects
from tests.integration.central.conftest import until
from tests.integration.central.test_standby import TAKEN_OVER_S, process, told_at, writer
from tests.integration.cert_renewer.conftest import Place
from tests.nats_server import NatsServer


async def test_a_standby_takes_over_from_a_killed_instance(place: Place, nats_server: NatsServer, bus: Bus) -> None:
    """While one works the other is silent; within 10 s of a kill -9 of the one, the other tells, and makes a token."""
    place.load()
    config = place.folder / "site.toml"
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        process("cert_renewer", "a", config, nats_server) as first,
    ):
        await until(lambda: writer(seen) == "cert_renewer/a")
        async with process("cert_renewer", "b", config, nats_server):
            turns = [told_at(seen)]
            while len(turns) < 12:
                await until(lambda: told_at(seen) > turns[-1])
                turns.append(told_at(seen))
                assert writer(seen) == "cert_renewer/a"
            first.send_signal(signal.SIGKILL)
            token = place.token.read_text()
            await until(lambda: writer(seen) == "cert_renewer/b", TAKEN_OVER_S)
            await until(lambda: place.token.read_text() != token)
