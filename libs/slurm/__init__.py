"""The batch queue behind a web API: start at `superfacility.connected`."""

import sys

# httpx imports its own command line (rich, pygments, click) when it can, and does without when it cannot: 4 MB of
# memory in each process that nobody uses.
if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
