"""Is the service alive, is it ready, and why not.

*Live*: every loop of the service came round within its bound. *Ready*: every named condition holds.
"""

from dataclasses import dataclass, field

from libs.runtime import clock


@dataclass(slots=True)
class Health:
    """Filled in by the service's parts, read by the HTTP port. One per process, used by one event loop."""

    _conditions: dict[str, str] = field(default_factory=dict)
    _beats: dict[str, tuple[float, float]] = field(default_factory=dict)

    def good(self, condition: str) -> None:
        """The condition holds."""
        self._conditions[condition] = ""

    def bad(self, condition: str, why: str) -> None:
        """The condition does not hold; `why` is shown to operators."""
        self._conditions[condition] = why

    def beat(self, loop: str, within_s: float) -> None:
        """The loop came round, and will again within so many seconds, or it hangs."""
        self._beats[loop] = (clock.monotonic_s(), within_s)

    def over(self, loop: str) -> None:
        """The loop ended in good order: it neither hangs nor says anything of this process any more."""
        self._beats.pop(loop, None)
        self._conditions.pop(loop, None)

    def not_ready(self) -> dict[str, str]:
        """Condition -> why it does not hold; empty when ready. A service that has said nothing yet is not ready."""
        if not self._conditions:
            return {"start": "not started yet"}
        return {condition: why for condition, why in self._conditions.items() if why}

    def hanging(self) -> dict[str, float]:
        """Loop -> seconds since its last beat, for those beyond their bound."""
        now_s = clock.monotonic_s()
        return {loop: now_s - at_s for loop, (at_s, within_s) in self._beats.items() if now_s - at_s > within_s}
