"""Small programs on the batch jobs' PATH that ask this process: squeue, scontrol, sacct, scancel, sbatch, sinfo."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.world.superfacility.commands import Answer

PROGRAMS = ("squeue", "scontrol", "sacct", "scancel", "sbatch", "sinfo")
REQUEST_MAX_BYTES = 8 * 1024 * 1024

# Runs as `python -IS ask.py PORT PROGRAM ARGS...`, so that it starts in a few milliseconds and needs no package.
ASK = """\
import json, os, socket, sys
port, *argv = sys.argv[1:]
stdin = "" if argv[0] != "sbatch" or sys.stdin.isatty() else sys.stdin.read()
request = {"argv": argv, "directory": os.getcwd(), "stdin": stdin, "environment": dict(os.environ)}
try:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as link, link.makefile("rwb") as stream:
        stream.write(json.dumps(request).encode() + b"\\n")
        stream.flush()
        answer = json.loads(stream.readline())
except (OSError, ValueError):
    sys.exit(argv[0] + ": error: Unable to contact slurm controller (connect failure)")
sys.stdout.write(answer["output"])
sys.stderr.write(answer["error"])
sys.exit(answer["exit_code"])
"""

Run = Callable[[Sequence[str], Path, str, Mapping[str, str]], Awaitable[Answer]]


async def serve_programs(folder: Path, run: Run) -> asyncio.Server:
    """Write the programs into `folder` and answer them by `run(argv, directory, stdin, environment)`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            request = json.loads(await reader.readline())
            said = await run(
                request["argv"], Path(request["directory"]), request["stdin"], dict(request["environment"])
            )
            line = json.dumps({"exit_code": said.exit_code, "output": said.output, "error": said.error})
            writer.write(line.encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=REQUEST_MAX_BYTES)
    port = server.sockets[0].getsockname()[1]
    _write_programs(folder, port)
    return server


def _write_programs(folder: Path, port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ask = folder / "ask.py"
    ask.write_text(ASK)
    for name in PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{ask}" {port} {name} "$@"\n')
        program.chmod(0o755)
