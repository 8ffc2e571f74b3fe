"""Read sbatch's options, from its command line and from the `#SBATCH` lines of a script.

Source: https://slurm.schedmd.com/sbatch.html. Only options that a CE or an operator uses; others are unknown here too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

SHORT_OPTIONS = {
    "A": "account", "C": "constraint", "D": "chdir", "G": "gpus", "H": "hold", "J": "job-name", "L": "licenses",
    "N": "nodes", "Q": "quiet", "S": "core-spec", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency",
    "e": "error", "i": "input", "n": "ntasks", "o": "output", "p": "partition", "q": "qos", "s": "oversubscribe",
    "t": "time", "w": "nodelist", "x": "exclude",
}  # fmt: skip
FLAGS = {"exclusive", "hold", "quiet", "requeue", "no-requeue", "parsable", "oversubscribe", "contiguous", "test-only"}
VALUES = {*SHORT_OPTIONS.values()} - FLAGS | {
    "comment", "export", "gpus-per-node", "gpus-per-task", "gres", "mail-type", "mail-user", "mem", "mem-per-cpu",
    "ntasks-per-node", "open-mode", "reservation", "signal", "switches", "threads-per-core", "time-min", "wrap",
    "deadline", "image", "module", "volume", "clusters", "get-user-env", "kill-on-invalid-dep", "profile",
}  # fmt: skip
SECONDS_PER = {"days": 86_400, "hours": 3_600, "minutes": 60}


class OptionError(ValueError):
    """sbatch would refuse the option; the message is sbatch's own."""


@dataclass
class BatchOptions:
    """sbatch's options by long name; a flag's value is the empty string."""

    values: dict[str, str] = field(default_factory=dict)
    script_path: str | None = None
    script_args: list[str] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)


def parse_arguments(words: Sequence[str]) -> BatchOptions:
    """Read a command line (without `sbatch`); raises OptionError with sbatch's text."""
    options = BatchOptions()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            rest.insert(0, word)
            break
        name, value = _split_option(word)
        if name in FLAGS:
            options.values[name] = value or ""
        elif name in VALUES:
            if value is None and not rest:
                raise OptionError(
                    f"sbatch: option '{word}' requires an argument\nTry \"sbatch --help\" for more information"
                )
            options.values[name] = value if value is not None else rest.pop(0)
        else:
            raise OptionError(f"sbatch: unrecognized option '{word}'\nTry \"sbatch --help\" for more information")
    if rest:
        options.script_path, options.script_args = rest[0], rest[1:]
    return options


def _split_option(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None
    return SHORT_OPTIONS.get(word[1], word), word[2:].removeprefix("=") if len(word) > 2 else None


def parse_script(script: str) -> BatchOptions:
    """Read the `#SBATCH` lines: in column 0, before the first command; raises OptionError."""
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            words += shlex.split(line[len("#SBATCH") :], comments=True)
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return parse_arguments(words)


def combine(script: BatchOptions, command_line: BatchOptions) -> BatchOptions:
    """Return both; the command line wins."""
    return BatchOptions(
        values={**script.values, **command_line.values},
        script_path=command_line.script_path,
        script_args=command_line.script_args,
    )


def parse_time_limit_s(text: str) -> int:
    """Return seconds for `minutes`, `minutes:seconds`, `hours:minutes:seconds` or `days-hours[:minutes[:seconds]]`."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise OptionError("sbatch: error: Invalid --time specification")
    days, first, second, third = (int(group) if group else None for group in match.groups())
    assert first is not None
    if days is not None:
        seconds = days * SECONDS_PER["days"] + first * SECONDS_PER["hours"] + (second or 0) * 60 + (third or 0)
    elif third is not None:
        seconds = first * SECONDS_PER["hours"] + (second or 0) * 60 + third
    else:
        seconds = first * 60 + (second or 0)
    # Slurm keeps whole minutes and rounds up.
    return -(-seconds // 60) * 60
