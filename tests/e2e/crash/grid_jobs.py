"""The grid jobs of a crash run: each agent at work holds one until the end, and what a dead one held waits again."""

from collections.abc import Iterable, Sequence
from typing import Any

from tests.e2e.house import House

# A void batch job of the synthetic model ends after a model second or two.
AT_WORK_AFTER_S = 5.0
AT_ONCE = 500


class GridJobs:
    """Plays the agents towards the central services. With a real Slurm agents are real and take for themselves."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._takes_itself = house.slurm == "real"
        self._holding: set[tuple[str, str]] = set()
        self._returned: set[tuple[str, str]] = set()

    def add(self, count: int) -> None:
        """Grid jobs that run until the end."""
        self._house.central("/grid_jobs", {"ce": self._house.ce_name, "count": count, "run_s": 36_000})

    def follow(self, ours: Sequence[dict[str, Any]]) -> None:
        """Take for the agents that have begun to work, and give back what dead ones held. `ours`: the ledger's rows."""
        at_work = {_who(row) for row in ours if _is_at_work(row)}
        if not self._takes_itself:
            self._tell("/takes", (agent for agent, _ in sorted(at_work - self._holding)), ce=self._house.ce_name)
        self._holding |= at_work
        over = {_who(row) for row in ours if row["ended_at"] is not None or row["state"] == "FORGOTTEN"}
        dead = self._holding & over - self._returned
        self._tell("/returns", (agent for agent, _ in sorted(dead)))
        self._returned |= dead

    def _tell(self, path: str, agents: Iterable[str], **more: str) -> None:
        names = list(agents)
        for first in range(0, len(names), AT_ONCE):
            self._house.central(path, {"agents": names[first : first + AT_ONCE], **more})


def _who(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['name']}.{row['index']}", str(row["job_id"])


def _is_at_work(row: dict[str, Any]) -> bool:
    run_s: float = row.get("run_s", AT_WORK_AFTER_S)
    return row["state"] == "RUNNING" and run_s >= AT_WORK_AFTER_S
