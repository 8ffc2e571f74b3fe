"""Timelines: what is done when, and what must hold by when. `at(3, ...)`, `want(between(4, 9), ...)`, `never(...)`.

A `want` must come true at some instant of its interval, a `never` at none of it. All of a timeline is watched at once,
in steps of a fifth of a second, until everything was done, every `never` is over and every `want` has come true; a
failure says the instant and what was seen then.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STEP_S = 0.2


@dataclass(frozen=True)
class Between:
    """An interval, in seconds since the timeline began."""

    from_s: float
    to_s: float


def between(from_s: float, to_s: float) -> Between:
    """From one second to another."""
    return Between(from_s, to_s)


@dataclass
class Expectation:
    """One thing to hold, or not to hold, within an interval. `look` gives what `holds` judges."""

    when: Between
    what: str
    look: Callable[[], Any]
    holds: Callable[[Any], bool]
    is_forbidden: bool
    was_met: bool = False
    seen: Any = None


@dataclass
class Timeline:
    """Actions and expectations, then `run`."""

    actions: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)

    def at(self, second: float, do: Callable[[], Any]) -> None:
        """Do this at that second."""
        self.actions.append((second, do))

    def want(self, when: Between, what: str, look: Callable[[], Any], holds: Callable[[Any], bool]) -> None:
        """This must come true in the interval."""
        self.expectations.append(Expectation(when, what, look, holds, is_forbidden=False))

    def never(self, when: Between, what: str, look: Callable[[], Any], holds: Callable[[Any], bool]) -> None:
        """This must not be true at any instant of the interval."""
        self.expectations.append(Expectation(when, what, look, holds, is_forbidden=True))

    def run(self) -> None:
        """Play it in real time; AssertionError names what did not hold."""
        began_s = time.monotonic()
        actions = sorted(self.actions, key=lambda action: action[0])
        end_s = max(expectation.when.to_s for expectation in self.expectations)
        while (now_s := time.monotonic() - began_s) <= end_s and (actions or self._is_open(now_s)):
            while actions and actions[0][0] <= now_s:
                actions.pop(0)[1]()
            for expectation in self.expectations:
                if expectation.when.from_s <= now_s <= expectation.when.to_s and not expectation.was_met:
                    self._look(expectation, now_s)
            self._refuse_missed(now_s)
            time.sleep(STEP_S)
        self._refuse_missed(end_s + STEP_S)

    def _is_open(self, now_s: float) -> bool:
        return any(not one.was_met and one.when.to_s >= now_s for one in self.expectations)

    def _look(self, expectation: Expectation, now_s: float) -> None:
        expectation.seen = expectation.look()
        if expectation.holds(expectation.seen):
            assert not expectation.is_forbidden, f"at {now_s:.1f} s: {expectation.what}; seen: {expectation.seen!r}"
            expectation.was_met = True

    def _refuse_missed(self, now_s: float) -> None:
        for expectation in self.expectations:
            missed = expectation.when.to_s < now_s and not expectation.was_met and not expectation.is_forbidden
            when = f"{expectation.when.from_s:g} to {expectation.when.to_s:g} s"
            assert not missed, f"not within {when}: {expectation.what}; last seen: {expectation.seen!r}"
