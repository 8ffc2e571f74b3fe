"""Resident memory of every idle service and of nats-server."""

import statistics
import time
from pathlib import Path
from typing import Any

from tests.e2e.house import standing

IDLE_S = 20.0
SAMPLES = 5
GOAL_ALL_MB = 400
GOAL_EACH_MB = 60


def resident_mb(pid: int) -> float:
    """VmRSS in MB (10^6 bytes)."""
    text = Path(f"/proc/{pid}/status").read_text()
    kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:"))
    return kib * 1024 / 1e6


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench: the house stands idle over the model Slurm, sampled for some seconds."""
    samples: dict[str, list[float]] = {}
    with standing(folder, "model") as house:
        time.sleep(IDLE_S)
        for _ in range(SAMPLES):
            for service, process in house.processes_of.items():
                samples.setdefault(service, []).append(round(resident_mb(process.pid), 1))
            samples.setdefault("nats_server", []).append(round(resident_mb(house.nats.pid), 1))
            time.sleep(1)
    together = [round(sum(of_one[number] for of_one in samples.values()), 1) for number in range(SAMPLES)]
    figures: dict[str, Any] = {
        "idle_rss_mb": {"value": statistics.median(together), "unit": "MB", "goal": GOAL_ALL_MB, "runs": together}
    }
    for name, runs in samples.items():
        goal = GOAL_EACH_MB if name != "nats_server" else None
        figures[f"idle_rss_mb_{name}"] = {"value": statistics.median(runs), "unit": "MB", "goal": goal, "runs": runs}
    return figures
