"""The model's whole nodes: CPU nodes, GPU nodes, which are free, which are down."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FIRST_CPU_NODE = 4096
FIRST_GPU_NODE = 1000
GPUS_PER_NODE = 4


@dataclass(frozen=True)
class Size:
    """How many nodes there are, and the cores of each."""

    cpu_nodes: int
    cpus: int
    gpu_nodes: int = 0


class Nodes:
    """Takes the lowest free names first; `down` and drained nodes come back when resumed."""

    def __init__(self, size: Size) -> None:
        names = {
            "cpu": [f"nid{FIRST_CPU_NODE + number:06d}" for number in range(size.cpu_nodes)],
            "gpu": [f"nid{FIRST_GPU_NODE + number:06d}" for number in range(size.gpu_nodes)],
        }
        self.cpus = size.cpus
        self.names = {feature: tuple(listed) for feature, listed in names.items() if listed}
        self.down: dict[str, str] = {}
        self._feature = {name: feature for feature, listed in self.names.items() for name in listed}
        self._free = {feature: set(listed) for feature, listed in self.names.items()}
        self._heaps = {feature: list(listed) for feature, listed in self.names.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._feature

    def all(self) -> list[str]:
        """Return every name."""
        return list(self._feature)

    def free(self, feature: str) -> int:
        """Return how many could be taken now."""
        return len(self._free[feature])

    def total(self, feature: str) -> int:
        """Return how many there are, down ones included."""
        return len(self.names[feature])

    def take(self, feature: str, count: int, excluded: frozenset[str]) -> tuple[str, ...] | None:
        """Take `count` free nodes, none of them excluded; None where there are too few."""
        free, heap = self._free[feature], self._heaps[feature]
        if len(free) < count or (excluded and len(free - excluded) < count):
            return None
        taken: list[str] = []
        passed_over: list[str] = []
        while len(taken) < count:
            name = heapq.heappop(heap)
            if name not in free:
                continue
            if name in excluded:
                passed_over.append(name)
                continue
            free.discard(name)
            taken.append(name)
        for name in passed_over:
            heapq.heappush(heap, name)
        return tuple(taken)

    def give_back(self, names: Iterable[str]) -> None:
        """Free nodes that a job has left; down ones stay away."""
        for name in names:
            if name not in self.down:
                self._make_free(name)

    def take_down(self, name: str, state: str) -> None:
        """Let a node be `down` or `drain`."""
        self.down[name] = state
        self._free[self._feature[name]].discard(name)

    def resume(self, names: Iterable[str], busy: Sequence[str]) -> None:
        """Bring nodes back; busy ones are freed by their job."""
        for name in names:
            if self.down.pop(name, None) is not None and name not in busy:
                self._make_free(name)

    def _make_free(self, name: str) -> None:
        feature = self._feature[name]
        if name not in self._free[feature]:
            self._free[feature].add(name)
            heapq.heappush(self._heaps[feature], name)
