"""Speed of the codec of ALICE's central services on one core, with all bounds on."""

import statistics
import time
import uuid
from pathlib import Path
from typing import Any

from libs.alice.reader import Reader
from libs.alice.requests import FreeSlotsRequest, Principal, Request, RequestEncoder, WaitingJobsRequest
from libs.alice.site_map import CeFacts, site_map

RECORDINGS = Path(__file__).parents[1] / "vectors" / "jalien"
RUNS = 7
RUN_S = 1.0
GOAL_MB_PER_S = 8
GOAL_REQUESTS_PER_S = 2000
# As the client: a connection, and with it the table of handles, serves so many requests.
REQUESTS_PER_CONNECTION = 100
READ_BYTES = 1 << 16
CHAIN_DER_BYTES = (1200, 1600)
CE = "ALICE::NERSC::perlmutter"
HOST = "vobox.example.org"


def parse_mb_per_s(streams: list[bytes]) -> float:
    """All streams over and over, each by a reader of its own; MB (10^6 bytes) per second of processor time."""
    done_bytes, started_s = 0, time.process_time()
    while (passed_s := time.process_time() - started_s) < RUN_S:
        for data in streams:
            reader = Reader()
            for place in range(0, len(data), READ_BYTES):
                reader.feed(data[place : place + READ_BYTES])
            done_bytes += len(data)
    return done_bytes / passed_s / 1e6


def encode_requests_per_s() -> float:
    """A CE's two requests in turn, the site map made anew each time, per second of processor time."""
    principal = Principal("alice", tuple(bytes(size) for size in CHAIN_DER_BYTES))
    done, started_s = 0, time.process_time()
    while (passed_s := time.process_time() - started_s) < RUN_S:
        encoder = RequestEncoder(principal, uuid.UUID(int=done))
        for n in range(REQUESTS_PER_CONNECTION):
            request: Request = FreeSlotsRequest(HOST, CE)
            if n % 2:
                request = WaitingJobsRequest(site_map(CeFacts(ce=CE, host=HOST, ttl_s=86400, cores=8)))
            encoder.encode(request, n + 1)
        done += REQUESTS_PER_CONNECTION
    return done / passed_s


def measure(folder: Path) -> dict[str, Any]:
    """The figures of this bench, whose goals are at least; it writes no files."""
    streams = [path.read_bytes() for path in sorted(RECORDINGS.glob("*.bin"))]
    parsed = [round(parse_mb_per_s(streams), 2) for _ in range(RUNS)]
    encoded = [round(encode_requests_per_s()) for _ in range(RUNS)]
    return {
        "codec_parse_mb_per_s": {
            "value": statistics.median(parsed),
            "unit": "MB/s",
            "goal": GOAL_MB_PER_S,
            "runs": parsed,
        },
        "codec_encode_requests_per_s": {
            "value": statistics.median(encoded),
            "unit": "requests/s",
            "goal": GOAL_REQUESTS_PER_S,
            "runs": encoded,
        },
    }
