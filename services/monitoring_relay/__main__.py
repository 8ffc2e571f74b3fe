"""Start the relay: `python -m services.monitoring_relay --config SITE_FILE`."""

import sys

from libs.runtime.run import run
from services.monitoring_relay.service import serve

if __name__ == "__main__":
    sys.exit(run("monitoring_relay", serve))
