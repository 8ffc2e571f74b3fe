"""Run the submitter: `python -m services.slurm_submitter`."""

import sys

from libs.runtime.run import run
from services.slurm_submitter.service import serve

if __name__ == "__main__":
    sys.exit(run("slurm_submitter", serve))
