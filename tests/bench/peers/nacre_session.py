"""Submit pilots as our submitter does, by local commands: `python -m tests.bench.peers.nacre_session COUNT ACCOUNT`.

Prints the unix time before the submission.
"""

from __future__ import annotations

import asyncio
import sys
import time

from libs.slurm import local
from libs.slurm.local import LocalQueue
from libs.slurm.outcomes import Accepted

SCRIPT = """#!/bin/bash
#SBATCH -J nacre-bench-{now}
#SBATCH --comment=nacre:name=nacre-bench-{now},replaces=-
#SBATCH --array=0-{last}
#SBATCH -A {account}
#SBATCH -q regular
#SBATCH -C cpu
#SBATCH -N 1
#SBATCH -t 5
#SBATCH -o /dev/null
#SBATCH --hold
# nacre: void_after={void_after}
sleep 1
"""


async def submit(count: int, account: str) -> None:
    """One submission of so many agents, accepted."""
    now = int(time.time())
    script = SCRIPT.format(now=time.time_ns(), last=count - 1, account=account, void_after=now + 600)
    queue = LocalQueue(local.environment())
    sys.stdout.write(f"{time.time()}\n")
    outcome = await queue.submit(script)
    assert isinstance(outcome, Accepted), outcome


if __name__ == "__main__":
    asyncio.run(submit(int(sys.argv[1]), sys.argv[2]))
