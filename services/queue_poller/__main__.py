"""Run the poller: `python -m services.queue_poller`; one look for people: `... --once [--ce NAME]`."""

import sys

from libs.runtime.run import run
from services.queue_poller.once import add_options, look
from services.queue_poller.service import serve

if __name__ == "__main__":
    sys.exit(run("queue_poller", serve, add_options, once=look))
