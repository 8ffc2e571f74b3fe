"""Run the tracker: `python -m services.status_tracker`."""

import sys

from libs.runtime.run import run
from services.status_tracker.service import serve

if __name__ == "__main__":
    sys.exit(run("status_tracker", serve))
