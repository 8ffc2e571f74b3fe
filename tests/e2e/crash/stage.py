"""The processes of a crash run, and everything that can be done to them. Each fault of the plan is one method here."""

import contextlib
import heapq
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.contract.superfacility_session import Facility, script, submit
from tests.e2e.crash.pace import SPEED, Pace
from tests.e2e.crash.plan import Fault, model_s
from tests.e2e.house import CE, SITE, House, initialise_bus, instance, stop_services, write_site_file
from tests.nats_server import NatsServer

TEMPLATE = Path(__file__).parent / "site.toml"
SERVICES = (
    ("queue_poller", 1),
    ("slurm_submitter", 1),
    ("slurm_submitter", 2),
    ("status_tracker", 1),
    ("status_tracker", 2),
)
# An orchestrator's pause before it starts again what ended by itself.
RESTART_S = 0.3
REAL_NODES = 16
# Job names of our user's other work; one of them looks nearly like ours.
STRANGERS = ("vasp", "nacre", "nacre-elsewhere-20260101t000000-0123456789ab")
STRANGERS_EACH = 2


class Stage:
    """A house, its strangers, and what is still to be done to it. Instants are seconds since the run began."""

    def __init__(self, house: House, pace: Pace) -> None:
        self.house = house
        self.pace = pace
        self.strangers = set(STRANGERS)
        self.ended_by_themselves: list[str] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._down: set[str] = set()
        self._stopped: set[str] = set()
        self._now_s = 0.0
        self._mid_submit: dict[int, float] = {}

    @property
    def is_real(self) -> bool:
        """Whether a real Slurm stands behind the API."""
        return self.house.slurm == "real"

    @property
    def busy(self) -> bool:
        """Whether something that was begun is still to be ended: what is down or stopped."""
        return bool(self._due)

    def armed(self) -> list[dict[str, Any]]:
        """The API's faults that were asked for and have not happened."""
        rows: list[dict[str, Any]] = self.house.facility("/_faults")
        return rows

    def do(self, fault: Fault) -> None:
        """Let a fault of the plan happen."""
        getattr(self, f"_{fault.kind}")(**fault.options)

    def step(self, now_s: float) -> None:
        """Do what is due, watch for what was waited for, and start again what ended by itself."""
        self._now_s = now_s
        while self._due and self._due[0][0] <= now_s:
            heapq.heappop(self._due)[2]()
        self._kill_who_submits()
        for name, process in self.house.processes_of.items():
            if name not in self._down and process.poll() is not None:
                self.ended_by_themselves.append(f"{name} ended with {process.returncode}")
                self._start_later(name, RESTART_S)

    def calm(self) -> list[dict[str, Any]]:
        """Take back every fault of the API's that has not happened; returns them."""
        left = self.armed()
        self.house.forget_faults()
        self._mid_submit.clear()
        return left

    def release(self) -> None:
        """Let what is stopped go on, so that it can be ended."""
        for name in self._stopped:
            self._signal(name, signal.SIGCONT)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._now_s + delay_s, next(self._order), act))

    def _api(self, **options: Any) -> None:
        self.house.facility("/_faults", options)

    def _controller_away(self, for_s: float) -> None:
        if not self.is_real:
            self.house.facility("/_slurm", {"action": "away", "for_s": model_s(for_s)})

    def _forget(self, younger_than_s: float) -> None:
        """Slurm loses what it acknowledged lately. The model's ids go to strangers at once."""
        if self.is_real:
            self.house.world["slurm"].send_signal(signal.SIGUSR1)
            return
        self.house.facility("/_slurm", {"action": "forget", "younger_than_s": model_s(younger_than_s)})
        self._add_strangers()

    def _add_strangers(self, names: Sequence[str] = STRANGERS) -> None:
        """Somebody else's sbatch, on the machine itself, again and again until slurmctld answers."""
        program = self.house.folder / "world" / "facility" / "model" / "bin" / "sbatch"
        for place, name in enumerate(names):
            text = script(options=[f"-J {name}", f"--array=0-{STRANGERS_EACH - 1}"])
            said = subprocess.run([program], input=text.encode(), capture_output=True, timeout=30, check=False)
            if said.returncode != 0:
                self._later(self.pace.turn_s, partial(self._add_strangers, names[place:]))
                return

    def _kill(self, service: str, number: int, down_s: float) -> None:
        self._kill_now(instance(service, number), down_s)

    def _kill_now(self, name: str, down_s: float) -> None:
        if name not in self._down:
            self.house.kill_service(name)
            self._start_later(name, down_s)

    def _start_later(self, name: str, down_s: float) -> None:
        def start() -> None:
            self._down.discard(name)
            service, _, number = name.partition("-")
            self.house.start_service(service, int(number or 1))

        self._down.add(name)
        self._stopped.discard(name)
        self._later(down_s, start)

    def _stop(self, service: str, number: int, for_s: float) -> None:
        name = instance(service, number)
        if name not in self._down:
            self._signal(name, signal.SIGSTOP)
            self._stopped.add(name)
            self._later(for_s, partial(self._continue, name))

    def _continue(self, name: str) -> None:
        if name in self._stopped:
            self._stopped.discard(name)
            self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self.house.processes_of[name]
        if process.poll() is None:
            os.kill(process.pid, number)

    def _kill_in_mid_submit(self, down_s: float) -> None:
        """The next POST is answered slowly, and who waits for the answer is killed."""
        asked = {"kind": "slow", "method": "POST", "path": "/compute/jobs/*", "delay_s": 1.0}
        self._mid_submit[self.house.facility("/_faults", asked)["id"]] = down_s

    def _kill_who_submits(self) -> None:
        if not self._mid_submit:
            return
        waiting = {row["id"] for row in self.armed()}
        for fault_id in [one for one in self._mid_submit if one not in waiting]:
            down_s = self._mid_submit.pop(fault_id)
            for number in (1, 2):
                self._kill_now(instance("slurm_submitter", number), down_s)

    def _kill_nats(self, down_s: float) -> None:
        if self.house.nats.pid:
            self.house.nats.kill()
            self._later(down_s, self.house.nats.start)

    def _lose_store(self, down_s: float) -> None:
        """The volume is gone: an empty nats-server comes up, and an operator's container makes streams and buckets."""
        if not self.house.nats.pid:
            self._later(1.0, partial(self._lose_store, down_s))
            return
        self.house.nats.kill()
        self.house.nats.lose_store()
        self._later(down_s, self._start_empty)

    def _start_empty(self) -> None:
        self.house.nats.start()
        initialise_bus(self.house)


@contextlib.contextmanager
def standing(folder: Path, slurm: str, pace: Pace) -> Iterator[Stage]:
    """The house of a crash run, ready, with strangers in the queue; all of it is stopped when left."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    house = House(folder=folder, nats=NatsServer(folder / "nats"), slurm=slurm)
    stage = Stage(house, pace)
    with contextlib.ExitStack() as stack:
        house.nats.start()
        stack.callback(house.nats.stop)
        _start_world(house, stack, pace)
        write_site_file(
            house,
            TEMPLATE,
            turn_s=pace.turn_s,
            settle_time_s=pace.settle_time_s,
            listing_lag_s=pace.listing_lag_s,
            match_lag_s=pace.match_lag_s,
            array=pace.array,
        )
        _submit_strangers(house)
        initialise_bus(house)
        stack.callback(stop_services, house)
        stack.callback(stage.release)
        for service, number in (*SERVICES, *([("cert_renewer", 1)] if stage.is_real else [])):
            house.start_service(service, number)
        house.wait_ready()
        yield stage


def _start_world(house: House, stack: contextlib.ExitStack, pace: Pace) -> None:
    def world(program: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        stack.callback(house.stop_world, program)
        house.start_world(program, *arguments, env=env, timeout_s=90.0)

    state = house.folder / "world"
    wide = ("--max-jobs", "1000000", "--max-queued", "1000000")
    world("central_services", "--port", "0", "--state", str(state / "central"), "--site", SITE, "--ce", CE, *wide)
    api = ("--port", "0", "--state", str(state / "facility"), "--slurm", house.slurm)
    if house.slurm == "real":
        world("slurm", "--state", str(state / "slurm"), "--nodes", str(REAL_NODES))
        slurm = house.ready["slurm"]
        who = ("--user", slurm["user"], "--account", slurm["account"])
        world("superfacility", *api, *who, env=slurm["environment"])
        return
    lags = ("--squeue-lag-s", str(model_s(0.3)), "--sacct-lag-s", str(model_s(0.3 * pace.listing_lag_s)))
    slowness = ("--speed", str(SPEED), "--configuring-s", "2", *lags)
    size = ("--nodes", str(pace.nodes), "--submit-limit", "1000000", "--run-s", "100000000")
    world("superfacility", *api, "--synthetic", "--latency-s", "0.05", "--task-delay-s", "0.1", *slowness, *size)


def _submit_strangers(house: House) -> None:
    with Facility(house.ready["superfacility"], house.slurm).client() as client:
        for name in STRANGERS:
            options = [f"-J {name}", f"--array=0-{STRANGERS_EACH - 1}", "-t 600", "-o /dev/null"]
            said = submit(client, script("sleep 100000", options=options))
            assert said["status"] == "ok", said
