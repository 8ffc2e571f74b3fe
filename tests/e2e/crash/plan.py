"""What goes wrong in one crash run, and when: the same for the same seed. Pure.

Every kind happens at least once in each run, in an order and at instants drawn by the seed.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from tests.e2e.crash.pace import SPEED, Pace

JOBS = "/compute/jobs/*"
WAVES = 8
LOSE_STORE = "lose_store"
Options = dict[str, Any]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: `kind` as in stage.Stage's table, `options` as that kind takes them."""

    at_s: float
    kind: str
    options: Options

    @property
    def words(self) -> str:
        """For people."""
        shown = {key: value for key, value in self.options.items() if key not in ("path", "kind")}
        what = self.options.get("kind", self.kind)
        return f"{what} {', '.join(f'{key} {value}' for key, value in shown.items())}".strip()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Faults in the order of their instants; `waves` are (instant, grid jobs that are added then)."""

    seed: int
    faults: list[Fault]
    waves: list[tuple[float, int]]


Draw = Callable[[random.Random, Pace], tuple[str, Options]]


def _api(method: str, kind: str, **options: Any) -> Draw:
    """A fault of the API's; a pair of numbers is drawn from, in units of the pace where the name ends in `_s`."""

    def draw(dice: random.Random, pace: Pace) -> tuple[str, Options]:
        drawn = {name: _drawn(name, value, dice, pace) for name, value in options.items()}
        return "api", {"kind": kind, "method": method, "path": JOBS, **drawn}

    return draw


def _drawn(name: str, value: Any, dice: random.Random, pace: Pace) -> Any:
    if not isinstance(value, tuple):
        return value
    scale = pace.unit_s if name.endswith("_s") else 1.0
    return round(dice.uniform(*value) * scale, 2)


def _process(kind: str, service: str, number: int | None, **options: Any) -> Draw:
    """An instance of a service killed or stopped; without a number the seed chooses one of two."""

    def draw(dice: random.Random, pace: Pace) -> tuple[str, Options]:
        drawn = {name: _drawn(name, value, dice, pace) for name, value in options.items()}
        return kind, {"service": service, "number": number or dice.choice((1, 2)), **drawn}

    return draw


def _other(kind: str, **options: Any) -> Draw:
    def draw(dice: random.Random, pace: Pace) -> tuple[str, Options]:
        return kind, {name: _drawn(name, value, dice, pace) for name, value in options.items()}

    return draw


# Stopped for longer than a lease lives (6 s, which is no setting), or for less.
_STOPPED_S = (1.0, 9.0)

TABLE: tuple[Draw, ...] = (
    # The POST is executed, its answer lost in every way there is.
    _api("POST", "lost_answer", delay_s=(0.5, 2.0)),
    _api("POST", "close_after"),
    _api("POST", "late_504", delay_s=(0.2, 1.5)),
    _api("POST", "vanished_task"),
    # The POST is not executed, and nobody can tell.
    _api("POST", "error_200"),
    _api("POST", "status", code=503),
    # It is executed late: within the settle time of 5 units, and after it, when its batch jobs must be void.
    _api("POST", "late_execution", delay_s=(1.0, 3.5)),
    _api("POST", "late_execution", delay_s=(5.5, 7.0)),
    # Listings that say less than the truth.
    _api("GET", "partial_listing", fraction=(0.3, 0.95)),
    _api("GET", "partial_listing", fraction=(0.8, 0.99)),
    _api("GET", "stale_cache", count=2),
    _api("GET", "error_200", count=2),
    _api("GET", "cut_body"),
    _api("GET", "status", code=503, count=4),
    _other("controller_away", for_s=(0.5, 1.5)),
    # Slurm forgets what it acknowledged, and strangers get the job ids.
    _other("forget", younger_than_s=(0.5, 3.0)),
    _other("forget", younger_than_s=(2.0, 12.0)),
    _process("kill", "slurm_submitter", 1, down_s=(0.1, 1.0)),
    _process("kill", "slurm_submitter", 2, down_s=(0.1, 1.0)),
    _process("stop", "slurm_submitter", None, for_s=_STOPPED_S),
    _process("kill", "status_tracker", 1, down_s=(0.1, 1.0)),
    _process("kill", "status_tracker", 2, down_s=(0.1, 1.0)),
    _process("stop", "status_tracker", None, for_s=_STOPPED_S),
    _process("kill", "queue_poller", 1, down_s=(0.1, 1.0)),
    _other("kill_in_mid_submit", down_s=(0.1, 1.0)),
    _other("kill_nats", down_s=(0.1, 1.0)),
    _other(LOSE_STORE, down_s=(0.1, 0.5)),
)


def draw(seed: int, pace: Pace, *, without: frozenset[str] = frozenset()) -> Plan:
    """The plan of one run; kinds in `without` do not happen."""
    dice = random.Random(seed)
    drawn = [one(dice, pace) for one in TABLE]
    dice.shuffle(drawn)
    slot_s = pace.faults_s / len(drawn)
    faults = [
        Fault(at_s=round((place + dice.uniform(0.1, 0.9)) * slot_s, 2), kind=kind, options=options)
        for place, (kind, options) in enumerate(drawn)
    ]
    # What is left out is left out last, so that the rest happens as it would have.
    kept = [fault for fault in faults if fault.kind not in without]
    return Plan(seed=seed, faults=kept, waves=_waves(pace))


def longest_delay_s(plan: Plan) -> float:
    """How long after the last fault something that was asked for before may still come."""
    return max([fault.options.get("delay_s", 0.0) for fault in plan.faults], default=0.0)


def model_s(real_s: float) -> float:
    """Model seconds of a real length of time."""
    return real_s * SPEED


def _waves(pace: Pace) -> list[tuple[float, int]]:
    """Grid jobs come over all of the time, so that there are submissions to go wrong all the time."""
    each, rest = divmod(pace.agents, WAVES)
    counts = [each + (place < rest) for place in range(WAVES)]
    return [(round(place * pace.faults_s / WAVES, 2), count) for place, count in enumerate(counts) if count]
