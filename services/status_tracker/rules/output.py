"""What a job agent wrote: where it is, when it is worth fetching, and what of it may be shown. Pure."""

import posixpath
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from libs.events.messages import AgentLog, Ending, JobAgent
from libs.runtime.errors import Malformed
from libs.slurm.hostlists import expanded
from libs.slurm.rows import BatchJob

HEAD_BYTES = 16 << 10
TAIL_BYTES = 48 << 10
# No secret is longer.
MARGIN_BYTES = 8 << 10
NOWHERE = ("", "/dev/null", "none")
# Endings that somebody will ask about. Nobody asks what a cancelled, void or finished agent wrote.
ASKED_ABOUT: frozenset[Ending] = frozenset(
    {"failed", "killed", "out_of_memory", "no_cvmfs", "no_token", "no_java", "no_directory", "time_limit"}
)
# Of one ending so many an hour are enough to see why; a machine that fails as a whole must not fill the rate.
FETCHED_PER_HOUR = 10
# A node that died and a file system that lags may need a while; later nobody cleans up for us.
FRESH_FOR = timedelta(hours=12)

_MARK = b"[redacted]"
# Private keys, tokens and passwords, whole or cut by our own limits; certificates are public.
_SECRETS = (
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(rb"\A(?:[A-Za-z0-9+/=]{1,80}\r?\n)+-----END [A-Z ]*PRIVATE KEY-----"),
    re.compile(rb"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(rb"(?i)(?<=\bauthorization: )[^\r\n]+"),
    re.compile(rb"(?i)(?<=\bbearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(rb"""(?i)(?:(?<=token=)|(?<=token_key=)|(?<=password=)|(?<=passwd=)|(?<=secret=))["']?[^\s"'&;]{4,}"""),
)
_PATTERN = re.compile(r"%([0-9]*)([AajJxNnut%s])")


def path_of(pattern: str, directory: str, job: BatchJob, index: int, rank: int) -> str:
    """Where Slurm lets a task write, from sbatch's `-o` and `-D` (https://slurm.schedmd.com/sbatch.html); "" nowhere.

    Empty, too, while the pattern asks for what is not known yet: the node, or the task's own job id.
    """
    if pattern in NOWHERE:
        return ""
    words = {
        "A": str(job.array_job_id),
        "a": str(index) if job.indices else "4294967294",
        "j": "" if job.raw_id is None else str(job.raw_id),
        "J": "" if job.raw_id is None else str(job.raw_id),
        "x": job.name,
        "N": _first_node(job.node_list),
        "n": "0",
        "t": str(rank),
        "s": "batch",
        "u": job.user,
        "%": "%",
    }
    if any(not words[letter] for _, letter in _PATTERN.findall(pattern)):
        return ""
    path = _PATTERN.sub(lambda found: words[found[2]].zfill(int(found[1] or 0)), pattern)
    return posixpath.normpath(posixpath.join(directory, path))


def _first_node(node_list: str) -> str:
    try:
        return next(iter(expanded(node_list)), "")
    except Malformed:
        return ""


def worth_fetching(records: Iterable[JobAgent], fetched: Iterable[JobAgent], now: datetime) -> list[JobAgent]:
    """Of agents that ended lately those whose output should be fetched, the latest first, some of each ending.

    `fetched` are those of the last hour.
    """
    taken: dict[Ending, int] = {}
    for record in fetched:
        taken[record.ending] = taken.get(record.ending, 0) + 1
    wanted = [
        record
        for record in records
        if record.ending in ASKED_ABOUT and record.log_path and record.end_at and now - record.end_at <= FRESH_FOR
    ]
    chosen: list[JobAgent] = []
    for record in sorted(wanted, key=lambda one: one.end_at or now, reverse=True):
        if taken.get(record.ending, 0) < FETCHED_PER_HOUR:
            taken[record.ending] = taken.get(record.ending, 0) + 1
            chosen.append(record)
    return chosen


def shortened(record: JobAgent, content: bytes, now: datetime) -> AgentLog:
    """The head and the tail of what it wrote, without secrets and control characters."""
    if len(content) <= HEAD_BYTES + TAIL_BYTES:
        head, redacted = without_secrets(content)
        tail = b""
    else:
        # A secret that lies across the cut is taken out before.
        head, of_head = without_secrets(content[: HEAD_BYTES + MARGIN_BYTES])
        tail, of_tail = without_secrets(content[-TAIL_BYTES - MARGIN_BYTES :])
        head, tail, redacted = head[:HEAD_BYTES], tail[-TAIL_BYTES:], of_head + of_tail
    return AgentLog(
        agent=record.agent,
        path=record.log_path,
        fetched_at=now,
        size_bytes=len(content),
        head=_readable(head),
        tail=_readable(tail),
        redacted=redacted,
    )


def without_secrets(content: bytes) -> tuple[bytes, int]:
    """The content without what looks like a secret, and how often there was one."""
    found = 0
    for pattern in _SECRETS:
        content, times = pattern.subn(_MARK, content)
        found += times
    return content, found


def _readable(content: bytes) -> str:
    """Text whose only control characters are tabs and ends of lines: no terminal obeys it."""
    text = content.decode("utf-8", "replace")
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
