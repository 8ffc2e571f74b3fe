"""One line for the command endpoint, and its framed answer. Pure.

The line is `bash -lc '...'` with nothing inside the quotes but letters, digits and a few signs that no shell expands:
it means the same to a login shell of any kind as to a program that splits words by the shell's rules. The answer stands
between marks, since a profile may print as well; what the program wrote is compressed and checked (gzip), so that a cut
or damaged answer is noticed; the facility's own exit code is always 0, the program's stands in the frame.
"""

import base64
import binascii
import gzip
import re
import shlex
import zlib
from collections.abc import Sequence

import msgspec

from libs.runtime.errors import Malformed
from libs.slurm import programs
from libs.slurm.outcomes import TEXT_LIMIT, Accepted, Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.script import ScriptFacts

# How long one program may run over there (a submission runs three, within a task's patience), and how much may come
# back: compressed, and as it was.
PROGRAM_TIME_S = 30
ANSWER_LIMIT_BYTES = 4_000_000
OUTPUT_LIMIT_BYTES = 64 << 20
# One argument of a command line has at most 128 KiB on Linux.
LINE_LIMIT_BYTES = 100_000
# A submission is looked for among the live and recently ended, and in accounting since then.
_LOOKED_BACK = "now-1days"

_FRAME = re.compile(
    r"nacre-begin\s+(?P<data>[A-Za-z0-9+/=\s]*?)\s*nacre-codes (?P<step>[a-z]+)(?P<codes>( [0-9]{1,3})+)\s+"
    r"nacre-error (?P<error>[A-Za-z0-9+/=]*)\s+nacre-end",
    re.ASCII,
)

_JOB = re.compile(r"([0-9]{1,10})(_[0-9\[\],:%-]+(\.\.\.)?.*)?", re.ASCII)

_OPENED = f"""\
exec 3>&1
export LC_ALL=C.UTF-8
err= step=none
run() {{
  err=$( {{ timeout -k 5 {PROGRAM_TIME_S} "$@" | gzip -c | base64 | head -c {ANSWER_LIMIT_BYTES}
    echo " nacre-codes $step ${{PIPESTATUS[*]}}"; }} 2>&1 >&3 )
  finish
}}
say() {{ step=$1 err=$3; printf '%s' "$2" | gzip -c | base64; echo "nacre-codes $step ${{4:-0}}"; finish; }}
finish() {{ printf 'nacre-error %s\\nnacre-end\\n' "$(printf %s "$err" | head -c 3000 | base64 -w 0)"; exit 0; }}
reading() {{
  unset ${{!SQUEUE_@}} ${{!SACCT_@}} SLURM_TIME_FORMAT SLURM_CLUSTERS SLURM_DEBUG_FLAGS
  export LC_ALL=C TZ=UTC SLURM_BITSTR_LEN=0
}}
effect() {{ unset ${{!SBATCH_@}} ${{!SCANCEL_@}} SLURM_CLUSTERS SLURM_DEBUG_FLAGS; }}
echo nacre-begin
"""

# The steps of a submission; `void`, `listed` and each failed look end it before sbatch.
_SUBMISSION = """\
void() {{ if [ "$(date +%s)" -gt {void_after} ]; then say void "$(date +%s)" ''; fi; }}
look() {{
  step=$1; shift
  found=$(reading; timeout -k 5 {time_s} "$@" 2>&1) || say "$step" '' "$found" 1
  if [ -n "$found" ]; then say listed "$(printf '%s\\n' "$found" | sort -u)" ''; fi
}}
void
me=$(id -un)
look squeue squeue -a -h -t all --user="$me" --name={name} -o %F
look sacct sacct -X -n -P --user="$me" --name={name} --starttime={since} --format=JobID
script=$(set -o pipefail; echo {packed} | base64 -d | gzip -d) || say script '' 'the script did not arrive whole' 1
effect
void
step=sbatch
run {sbatch} <<< "$script"
"""
# Far beyond any clock: for a script without void_after.
_NEVER = 99_999_999_999


class RemoteSaid(msgspec.Struct, frozen=True, kw_only=True):
    """A whole framed answer: which step it ended in, its exit code, what it wrote."""

    step: str
    exit_code: int
    output: str
    error: str


def reading(argv: Sequence[str]) -> str:
    """The line that runs squeue, sacct, or another program that may run twice."""
    return _line(f"reading\nstep={argv[0]}\nrun {shlex.join(argv)}\n")


def cancelling(job_ids: Sequence[str]) -> str:
    """The line that runs scancel."""
    return _line(f"effect\nstep=scancel\nrun {shlex.join(programs.scancel(job_ids))}\n")


def submitting(script: str, facts: ScriptFacts) -> str:
    """The line that looks for the name in squeue and sacct, and runs sbatch only when neither has it and it is time.

    Two executions within the same second do not see each other; the one line is sent once.
    """
    return _line(
        _SUBMISSION.format(
            void_after=int(facts.void_after.timestamp()) if facts.void_after else _NEVER,
            time_s=PROGRAM_TIME_S,
            name=facts.name,
            since=_LOOKED_BACK,
            packed=_packed(script.encode()),
            sbatch=shlex.join(programs.sbatch(facts.name)),
        )
    )


def read_answer(text: str, what: str) -> RemoteSaid:
    """The framed answer. Malformed when it is not whole: without a mark, cut, damaged, or larger than it may be."""
    frame = _FRAME.search(text)
    if frame is None:
        raise Malformed(f"{what}: the command's answer is not whole ({len(text)} characters, no frame)")
    codes = [int(code) for code in frame["codes"].split()]
    step = frame["step"]
    # The program's own code comes first; behind it those of the pipe that brought its output.
    if any(codes[1:]):
        raise Malformed(f"{what}: what {step} wrote is larger than {ANSWER_LIMIT_BYTES} bytes, or was lost on the way")
    try:
        output = _unpacked(frame["data"])
        error = base64.b64decode(frame["error"]).decode(errors="replace")
    except (binascii.Error, zlib.error, EOFError, OSError):
        raise Malformed(f"{what}: what {step} wrote is damaged") from None
    return RemoteSaid(step=step, exit_code=codes[0], output=output, error=error)


def submission(said: RemoteSaid) -> Outcome:
    """What the line of `submitting` came to; only `sbatch` itself can have had an effect."""
    if said.step == "sbatch":
        return programs.submitted(said.exit_code, said.output, said.error)
    if said.step == "void":
        return Refusal(kind=RefusalKind.VOID, text=f"not submitted: it was past void_after there ({said.output})")
    if said.step == "listed" and (ids := _ids(said.output)):
        if len(ids) > 1:
            return Unclear(why=f"not submitted: batch jobs {', '.join(sorted(ids))} have the name already")
        return Accepted(job_id=ids.pop())
    text = f"not submitted: {said.step} said {(said.error or said.output).strip()[:TEXT_LIMIT]!r} when asked before"
    return Refusal(kind=RefusalKind.BUSY, text=text)


def _ids(text: str) -> set[str] | None:
    """The batch jobs of `16_0`, `16_[1-3]`, `16`; None when a line is something else."""
    found = [_JOB.fullmatch(line) for line in text.split()]
    return {match[1] for match in found if match} if all(found) else None


def _line(body: str) -> str:
    packed = base64.b64encode((_OPENED + body).encode()).decode()
    return f"bash -lc 'eval \"$(echo {packed} | base64 -d)\"'"


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _unpacked(data: str) -> str:
    unpacking = zlib.decompressobj(wbits=31)
    content = unpacking.decompress(base64.b64decode(data), OUTPUT_LIMIT_BYTES)
    if not unpacking.eof:
        raise EOFError
    return content.decode(errors="replace")
