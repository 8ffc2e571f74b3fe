"""Jobs that only take their time: the script is read for its `# nacre:` lines and never run."""

from __future__ import annotations

from dataclasses import dataclass

from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import SUSPENDED, Batch, Element

VOID_EXIT_CODE = 85
MARK = "# nacre:"
# A void job's prologue takes a moment.
VOID_S = 1.0
DEFAULT_RUN_S = 3600.0


@dataclass(frozen=True)
class Plan:
    """What `# nacre: void_after=<unix s> run_s=<s> exit_code=<n>` says; words may stand on several such lines."""

    void_after: float | None
    run_s: float
    exit_code: int


def read_plan(script: str, default_run_s: float) -> Plan:
    """Read a script; a word that is no number is as if it were not there."""
    values: dict[str, float] = {}
    for line in script.splitlines():
        if line.startswith(MARK):
            for word in line[len(MARK) :].split():
                name, _, value = word.partition("=")
                try:
                    values[name] = float(value)
                except ValueError:
                    continue
    return Plan(values.get("void_after"), values.get("run_s", default_run_s), int(values.get("exit_code", 0)))


class Synthetic:
    """A launch (see controller.Launch) of jobs without processes."""

    def __init__(self, controller: Controller, *, run_s: float = DEFAULT_RUN_S) -> None:
        self._controller = controller
        self._run_s = run_s
        self._plans: dict[Batch, Plan] = {}

    def start(self, element: Element) -> None:
        """Let the job end when its time is over, or at once with 85 when it was accepted too late."""
        batch = element.batch
        if batch not in self._plans:
            self._plans[batch] = read_plan(batch.script, self._run_s)
        plan = self._plans[batch]
        late = plan.void_after is not None and batch.accepted_at > plan.void_after
        if late and not element.restarts:
            self._controller.after(VOID_S, self._end_void, element)
        else:
            self._controller.after(plan.run_s, self._end, element)

    def stop(self, element: Element, *, at_once: bool) -> None:
        """A job without a process obeys at once."""
        if not at_once:
            self._controller.exited(element, element.run, 0, 0)

    def suspend(self, element: Element, *, suspended: bool) -> None:
        """A resumed job runs for what is left of its time."""
        if not suspended:
            left_s = self._plans[element.batch].run_s - element.run_s(self._controller.time)
            self._controller.after(max(0.0, left_s), self._end, element)

    def _end(self, element: Element) -> None:
        plan = self._plans[element.batch]
        if element.state != SUSPENDED and element.run_s(self._controller.time) >= plan.run_s - 1e-3:
            self._controller.exited(element, element.run, plan.exit_code, 0)

    def _end_void(self, element: Element) -> None:
        self._controller.exited(element, element.run, VOID_EXIT_CODE, 0)

    async def close(self) -> None:
        """Nothing runs."""
