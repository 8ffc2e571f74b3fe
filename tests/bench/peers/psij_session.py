"""Submit pilots by PSI/J's Slurm executor: `python psij_session.py COUNT ACCOUNT`.

Runs inside the virtual environment of psij.lock, not ours. Prints the unix time before the first submission.
Its template cannot write the option --hold, so its jobs are kept from starting by --begin.
Source: https://exaworks.org/psij-python/docs/v/0.9.11/getting_started.html
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Submit, say when, and end."""
    from psij import Job, JobAttributes, JobExecutor, JobSpec  # type: ignore[import-not-found]

    count, account = int(sys.argv[1]), sys.argv[2]
    executor = JobExecutor.get_instance("slurm")
    options = {"slurm.qos": "regular", "slurm.constraint": "cpu", "slurm.begin": "now+1day"}
    sys.stdout.write(f"{time.time()}\n")
    for _ in range(count):
        attributes = JobAttributes(account=account, custom_attributes=options)
        executor.submit(Job(JobSpec(executable="/bin/sleep", arguments=["1"], attributes=attributes)))
    sys.stdout.flush()
    # Its thread that watches the jobs would go on for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
