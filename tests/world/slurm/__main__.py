"""Start a real Slurm with accounting, print one ready line, stop everything on SIGTERM or SIGINT.

    python -m tests.world.slurm --state DIR [--nodes 8] [--gpu-nodes 0] [--cpus 128] [--address 127.0.0.1]
    python -m tests.world.slurm --check

Ready line: {"environment": {"SLURM_CONF"}, "user", "account", "qos": [...], "machine", "nodes", "cpus", "state"}; run
sbatch, squeue, sacct and scancel with that environment. SIGUSR1 kills slurmctld (-9) and starts it again.
Exit codes: 0 stopped, 1 could not start, 2 wrong arguments or (--check) something is missing.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.world.slurm.cluster import Cluster, missing_programs


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived; not an Exception, so that nothing on the way swallows it."""


def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.world.slurm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, help="directory of this instance; emptied of an earlier run first")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--gpu-nodes", type=int, default=0, help="further nodes, with the feature gpu")
    parser.add_argument("--cpus", type=int, default=128, help="cores that each node claims to have")
    parser.add_argument(
        "--address", default="127.0.0.1", help="where the daemons are reached; a host name serves other machines, too"
    )
    parser.add_argument("--check", action="store_true", help="say whether a real Slurm is installed")
    options = parser.parse_args()
    missing = missing_programs()
    if missing:
        print(f"no real Slurm with accounting here; missing: {' '.join(missing)}", file=sys.stderr)
        return 2
    if options.check:
        return 0
    if options.state is None:
        parser.error("--state is needed")
    signal.signal(signal.SIGTERM, _raise_stopped)
    signal.signal(signal.SIGINT, _raise_stopped)
    cluster = Cluster(
        options.state,
        nodes=options.nodes,
        gpu_nodes=options.gpu_nodes,
        cpus=options.cpus,
        address=options.address,
    )
    try:
        cluster.start()
        crashes = _crashes_wanted()
        print(json.dumps(cluster.ready()), flush=True)
        _watch(cluster, crashes)
    except Stopped:
        return 0
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"Slurm could not be started: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cluster.stop()


def _crashes_wanted() -> threading.Event:
    """Set by SIGUSR1: slurmctld is to crash and come back."""
    wanted = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: wanted.set())
    return wanted


def _watch(cluster: Cluster, crashes: threading.Event) -> NoReturn:
    """Say once when a daemon dies: tests kill some on purpose, so that the others stay."""
    said: set[str] = set()
    while True:
        if crashes.is_set():
            crashes.clear()
            cluster.crash_controller()
            print("slurmctld was killed and is back", file=sys.stderr)
        for name, code in cluster.dead().items():
            if name not in said:
                print(f"{name} ended with code {code}", file=sys.stderr)
                said.add(name)
        time.sleep(0.5)


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
