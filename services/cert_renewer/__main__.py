"""Run the renewer: `python -m services.cert_renewer`."""

import sys

from libs.runtime.run import run
from services.cert_renewer.service import serve

if __name__ == "__main__":
    sys.exit(run("cert_renewer", serve))
