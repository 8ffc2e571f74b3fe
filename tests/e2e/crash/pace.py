"""How fast a crash run goes: every length of time of the site and of the world, for a number of job agents. Pure.

Everything that a site waits for is scaled down alike; with more agents there is more to list and to record in each
turn, so all of it grows slowly with their number.
"""

from dataclasses import dataclass

SMALLEST = 100
GROWTH = 0.45
# Of the model Slurm: model seconds in a real one.
SPEED = 10


@dataclass(frozen=True)
class Pace:
    """Lengths of time in real seconds, sizes in job agents."""

    agents: int

    @property
    def unit_s(self) -> float:
        """The pace's second: 1 s up to a hundred agents, 8 s with ten thousand."""
        return float(max(1.0, (self.agents / SMALLEST) ** GROWTH))

    @property
    def turn_s(self) -> float:
        """Between two polls, two listings, two decisions."""
        return 0.5 * self.unit_s

    @property
    def settle_time_s(self) -> float:
        """How long a POST may be executed late."""
        return 5.0 * self.unit_s

    @property
    def listing_lag_s(self) -> float:
        """How long listings may lag behind."""
        return 2.0 * self.unit_s

    @property
    def match_lag_s(self) -> float:
        """How long a started agent may take to take its grid job: our looking at the ledger included."""
        return 3.0 * self.unit_s

    @property
    def look_s(self) -> float:
        """Between two looks at the world's ledger."""
        return 0.25 * self.unit_s

    @property
    def faults_s(self) -> float:
        """How long faults go on."""
        return 12.0 * self.unit_s

    @property
    def patience_s(self) -> float:
        """How long after the last fault all must be well again. A refusal's back-off, which is not scaled, is in it."""
        return 60.0 * self.unit_s + 60.0

    @property
    def array(self) -> int:
        """Job agents in one submission: small, so that there are many POSTs to go wrong."""
        return max(1, min(500, self.agents // 12))

    @property
    def nodes(self) -> int:
        """Fewer than agents, so that some run and some are queued nearly all the time."""
        return max(8, self.agents // 2)
