"""The demo's journey inside Docker Compose, with a real Slurm in its own container: `make test-containers`.

Grid jobs enter a task queue, job agents go through Slurm and run them, the world's ledgers give the verdict. Exit code
0 when nothing was lost or doubled, and also where no container engine can be had, which is said.
"""

import argparse
import asyncio
import json
import sys
import time

from tests.containers import engine
from tests.containers.debian import Impossible
from tests.containers.house import ComposeFailedError, standing
from tests.e2e.demo import BUILD, console, good, judged, print_summary, travel

SUMMARY = BUILD / "containers-summary.json"


def run(grid_jobs: int, timeout_s: float) -> int:
    """The whole test on an engine that runs; the exit code."""
    started_s = time.monotonic()
    console.print("building the images and starting the containers")
    with standing(BUILD / "containers") as house:
        console.print(f"healthy; seconds: {house.seconds}")
        intended = asyncio.run(travel(house, grid_jobs, timeout_s))
        content, found = judged(house, intended, time.monotonic() - started_s)
        unconfined = house.unconfined()
    content |= {"seconds": house.seconds, "unconfined": unconfined}
    SUMMARY.write_text(json.dumps(content, indent=1) + "\n")
    print_summary(content, found)
    return 0 if good(content) and not unconfined else 1


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="make test-containers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--grid-jobs", type=int, default=40)
    parser.add_argument("--timeout-s", type=float, default=110.0, help="give up the journey after so long")
    options = parser.parse_args()
    SUMMARY.unlink(missing_ok=True)
    started_s = time.monotonic()
    try:
        with engine.running():
            console.print(f"engine and base images: {time.monotonic() - started_s:.1f} s")
            return run(options.grid_jobs, options.timeout_s)
    except Impossible as why:
        console.print(f"container tests are skipped: {why}")
        return 0
    except ComposeFailedError as error:
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
