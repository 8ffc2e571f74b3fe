"""The codec under recordings that were changed by chance: `python -m tests.bench.codec_mutations [--cases N]`.

A case passes only with objects or with one of our Malformed errors, in bounded time and memory; the first that does not
ends the run with its number, which gives the same bytes again. CI runs one case in a hundred.
"""

import argparse
import json
import resource
import sys
import time
import tracemalloc
from collections import Counter

from tests.unit.alice import mutations

SEED = 20261123
CASES = 1_000_000
MOST_CASE_S = 1.0
MOST_CASE_BYTES = 16 << 20
MEMORY_EVERY = 100


def weight_bytes(data: bytes, piece_bytes: int) -> int:
    """The most memory that was held at once for one case."""
    tracemalloc.start()
    try:
        mutations.run(data, piece_bytes)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> int:
    """Run the cases; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.codec_mutations", description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="(default: %(default)s)")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    slowest_s, slowest, most_bytes, read_bytes = 0.0, 0, 0, 0
    began_s = time.process_time()
    for number in range(options.cases):
        data, piece_bytes = mutations.mutated(options.seed, number)
        read_bytes += len(data)
        if number % MEMORY_EVERY == 0:
            most_bytes = max(most_bytes, weight_bytes(data, piece_bytes))
        started_s = time.process_time()
        try:
            outcomes[mutations.run(data, piece_bytes)] += 1
        except BaseException:
            sys.stderr.write(f"case {number} of seed {options.seed} broke the codec's word\n")
            raise
        spent_s = time.process_time() - started_s
        if spent_s > slowest_s:
            slowest_s, slowest = spent_s, number
    figures = {
        "cases": options.cases,
        "seed": options.seed,
        **outcomes,
        "mb": round(read_bytes / 1e6),
        "seconds": round(time.process_time() - began_s, 1),
        "slowest_case_ms": round(slowest_s * 1000, 1),
        "slowest_case": slowest,
        "most_case_kb": round(most_bytes / 1000),
        "most_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if slowest_s <= MOST_CASE_S and most_bytes <= MOST_CASE_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
