"""Shows recorded streams of the central services, either direction: one JSON line for each object.

    python -m libs.alice FILE...

Each line: {"file", "n" (from 0), "class", "fields", "resets" (so far)}. Ends with 1 at the first object that does not
parse, or does not end, and says where; with 2 when a file cannot be read. Private keys are not shown.
"""

import argparse
import json
import sys
from pathlib import Path

from libs.alice import shown
from libs.alice.limits import MalformedStream
from libs.alice.reader import Reader

# In larger pieces a reset after an object would be met before the object is shown, and counted with it.
PIECE_BYTES = 1


def main(arguments: list[str] | None = None) -> int:
    """Show the files in turn; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m libs.alice", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="+", type=Path, help="what one side sent, from its first byte on")
    for path in parser.parse_args(arguments).file:
        try:
            show(path)
        except MalformedStream as fault:
            print(f"{path}: {fault}", file=sys.stderr)  # noqa: T201 - a command's output
            return 1
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)  # noqa: T201
            return 2
    return 0


def show(path: Path) -> None:
    """Print the lines of one file. Raises MalformedStream at the first object that does not parse or does not end."""
    reader, n = Reader(), 0
    with path.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            for item in reader.feed(data):
                line = {
                    "file": str(path),
                    "n": n,
                    "class": shown.class_of(item),
                    "fields": shown.fields_of(item),
                    "resets": reader.resets,
                }
                print(json.dumps(line))  # noqa: T201
                n += 1
    reader.feed(b"")
    if reader.is_mid_object:
        raise MalformedStream("the stream ends before its header or an object is whole", reader.offset, reader.inside)


if __name__ == "__main__":
    sys.exit(main())
