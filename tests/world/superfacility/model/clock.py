"""The model's time: unix seconds that begin with the wall clock's and run `speed` times as fast.

Durations (limits, lags, run times, elapsed times) are model seconds. Instants are shown as the wall clock's, so that
what a service wrote at its own time (`void_after`, a window for sacct) compares with what Slurm says at any speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Converts between model time and the wall clock's; `wall` returns unix seconds."""

    def __init__(self, speed: float = 1.0, wall: Callable[[], float] = time.time) -> None:
        if not speed > 0:
            raise ValueError("the speed is above zero")
        self.speed = speed
        self.wall = wall
        self._epoch = wall()

    def now(self) -> float:
        """Return the model's time."""
        return self.of_wall(self.wall())

    def of_wall(self, instant: float) -> float:
        """Return the model's time at an instant of the wall clock."""
        return self._epoch + (instant - self._epoch) * self.speed

    def shown(self, model_time: float) -> float:
        """Return the wall clock's instant at a model time."""
        return self._epoch + (model_time - self._epoch) / self.speed
