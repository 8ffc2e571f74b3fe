"""What a batch script says of itself: its job name, and the instant after which it must not be submitted. Pure.

Whoever checks before submitting looks for the very name that sbatch will take, so it is read from the script that is
sent, as sbatch reads it: `#SBATCH` lines in column 0 before the first command, the last one counts.
Source: https://slurm.schedmd.com/sbatch.html.
"""

import re
import shlex
from datetime import UTC, datetime, timedelta

import msgspec

from libs.runtime.errors import Malformed

VOID_AFTER = "# nacre: void_after="
# Names end up in command lines and in lists with commas: nothing that a shell or squeue could read otherwise.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_VOID_AFTER = re.compile(rf"^{VOID_AFTER}([0-9]{{1,11}})\b", re.ASCII | re.MULTILINE)
_LONG, _SHORT = "--job-name", "-J"


class ScriptFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The job name, and the last instant at which the script may be submitted (None: always)."""

    name: str
    void_after: datetime | None

    def is_void(self, now: datetime) -> bool:
        """Whether submitting it now would be too late; in whole seconds, as the script itself compares."""
        return self.void_after is not None and now >= self.void_after + timedelta(seconds=1)


def facts(script: str) -> ScriptFacts:
    """Read a script. Malformed when it names no job, or names it with more than letters, digits, `.`, `_` and `-`."""
    name = ""
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            name = _named(line.removeprefix("#SBATCH")) or name
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    if not _NAME.fullmatch(name):
        raise Malformed(f"a batch script needs a plain job name (#SBATCH -J), not {name[:80]!r}")
    void_after = _VOID_AFTER.search(script)
    return ScriptFacts(name=name, void_after=datetime.fromtimestamp(int(void_after[1]), UTC) if void_after else None)


def _named(options: str) -> str:
    """The job name on one line, the last of several; empty when there is none."""
    try:
        words = shlex.split(options, comments=True)
    except ValueError:
        raise Malformed(f"#SBATCH line {options[:80]!r} has a quote without an end") from None
    found = ""
    for position, word in enumerate(words):
        if word in (_SHORT, _LONG):
            found = words[position + 1] if position + 1 < len(words) else found
        elif word.startswith(f"{_LONG}="):
            found = word.removeprefix(f"{_LONG}=")
        elif word.startswith(_SHORT) and not word.startswith("--"):
            found = word.removeprefix(_SHORT)
    return found
