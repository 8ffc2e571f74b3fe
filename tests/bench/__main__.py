"""Speed and memory, written to build/bench.json: `make bench`.

One object per figure: `"name": {"value":, "unit":, "goal":, "runs": [..]}`; the value is the median of the runs unless
the name says otherwise. The goal is what the issue asked for, at most (or at least, where the note says so).
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import codec, demand_to_post, idle_memory, local_submit, poll_many, world_speed
from tests.world.processes import REPOSITORY

BENCHES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "codec": codec.measure,
    "demand_to_post": demand_to_post.measure,
    "idle_memory": idle_memory.measure,
    "world_speed": world_speed.measure,
    "local_submit": local_submit.measure,
    "poll_many": poll_many.measure,
}


def main() -> int:
    """Run all benches, or those named."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", nargs="*", choices=[*BENCHES, []], help="default: all")
    chosen = parser.parse_args().bench or list(BENCHES)
    console = Console()
    build = REPOSITORY / "build"
    figures: dict[str, Any] = {}
    for name in chosen:
        console.print(f"measuring {name} ...")
        figures |= BENCHES[name](build / "bench" / name)
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    table = Table(
        "figure", "value", "unit", "goal", "runs", title=f"{platform.machine()}, Python {platform.python_version()}"
    )
    for name, figure in figures.items():
        runs = ", ".join(f"{run:g}" for run in figure["runs"])
        table.add_row(name, f"{figure['value']:g}", figure["unit"], str(figure["goal"] or ""), runs)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
