"""The model's squeue: what has not ended; a pending array is one row."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.world.superfacility.arrays import format_tasks
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.columns import SQUEUE_CONSTANTS, SQUEUE_HEADERS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import ACTIVE_STATES, PENDING, STATE_CODES, Element
from tests.world.superfacility.model.words import instant, names, option, read_options, read_states, span

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
PRIORITY_SCALE = 2**32
JOBID_MAX_CHARACTERS = 31
LONG = (
    "noheader", "jobs=", "user=", "states=", "name=", "account=", "qos=", "partition=", "format=", "array", "me",
    "nodelist=", "sort=", "long",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line: an element, or all pending elements of one array."""

    element: Element
    pending: tuple[int, ...] | None


def squeue(controller: Controller, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Answer `squeue words`."""
    read = read_options("squeue", words, "hj:u:t:n:A:q:p:o:raw:S:l", LONG)
    if isinstance(read, Answer):
        return read
    options, _ = read
    states = read_states(option(options, "-t", "--states") or ",".join(ACTIVE_STATES))
    if states is None:
        return Answer(1, "", f"squeue: error: Invalid job state specified: {option(options, '-t', '--states')}\n")
    ids = [word for word in (option(options, "-j", "--jobs") or "").split(",") if word]
    known = [element for element in controller.elements() if controller.known(element)]
    if len(ids) == 1 and not any(names(element, ids) for element in known):
        return Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n")
    wanted = [
        element
        for element in known
        if (not states or element.state in states) and (not ids or names(element, ids)) and _asked_for(element, options)
    ]
    form = option(options, "-o", "--format") or DEFAULT_FORMAT
    if form in ("%all", "all"):
        form = "|".join(f"%{letter}" for letter in SQUEUE_HEADERS)
    lines = [] if option(options, "-h", "--noheader") is not None else [_fill(form, SQUEUE_HEADERS)]
    expand = option(options, "-r", "--array") is not None
    lines += [_fill(form, row_fields(controller, row, environment)) for row in _rows(wanted, expand=expand)]
    return Answer(0, "".join(f"{line}\n" for line in lines), "")


def _asked_for(element: Element, options: Mapping[str, str]) -> bool:
    batch = element.batch
    for given, own in (
        (option(options, "-u", "--user"), batch.user),
        (option(options, "-n", "--name"), batch.name),
        (option(options, "-A", "--account"), batch.account),
        (option(options, "-q", "--qos"), batch.qos),
        (option(options, "-p", "--partition"), batch.partition),
    ):
        if given is not None and own not in given.split(","):
            return False
    return True


def _rows(elements: Sequence[Element], *, expand: bool) -> Iterator[Row]:
    """Pending ones first, as squeue sorts; one row for all pending tasks of an array."""
    pending: dict[int, list[Element]] = {}
    for element in elements:
        if element.raw_id is None:
            pending.setdefault(element.batch.job_id, []).append(element)
    for group in pending.values():
        if expand:
            yield from (Row(element, (element.index or 0,)) for element in group)
        else:
            yield Row(group[0], tuple(element.index or 0 for element in group))
    yield from (Row(element, None) for element in elements if element.raw_id is not None)


def row_fields(controller: Controller, row: Row, environment: Mapping[str, str]) -> dict[str, str]:
    """Return every letter's value of one row."""
    element, batch = row.element, row.element.batch
    started = element.start_at is not None
    run_s = ((element.end_at or time.time()) - element.start_at) if element.start_at is not None else 0.0
    end_at = element.end_at
    if end_at is None and element.start_at is not None:
        end_at = element.start_at + batch.time_limit_s
    reason = "None" if element.state not in ("PENDING", "FAILED", "TIMEOUT") else _reason(element)
    nodes = ",".join(element.nodes)
    job_id, tasks, label = str(element.raw_id), "N/A" if element.index is None else str(element.index), element.label
    if row.pending is not None:
        # With SLURM_BITSTR_LEN=0 squeue prints the whole list.
        cut = environment.get("SLURM_BITSTR_LEN") != "0"
        tasks = format_tasks(row.pending, throttle=batch.throttle, cut=cut)
        job_id, label = str(batch.job_id), f"{batch.job_id}_[{tasks}]"[: JOBID_MAX_CHARACTERS if cut else None]
    return SQUEUE_CONSTANTS | {
        "a": batch.account, "e": instant(end_at, environment, missing="N/A"), "f": batch.constraint or "(null)",
        "g": batch.group, "h": "NO", "i": label, "j": batch.name, "k": batch.comment or "(null)",
        "l": span(batch.time_limit_s, padded=False), "o": batch.command or "(null)",
        "p": f"{batch.priority / PRIORITY_SCALE:.14f}", "q": batch.qos, "r": reason, "t": STATE_CODES[element.state],
        "u": batch.user, "A": job_id, "B": element.nodes[0] if nodes else "n/a",
        "C": str(controller.cpus * batch.nodes) if started else str(batch.nodes), "D": str(batch.nodes),
        "F": str(batch.job_id), "G": str(batch.uid), "K": tasks,
        "L": span(max(0.0, batch.time_limit_s - run_s), padded=False), "M": span(run_s, padded=False), "N": nodes,
        "P": batch.partition, "Q": str(batch.priority), "R": nodes if nodes and element.state in ACTIVE_STATES
        else f"({reason})", "S": instant(element.start_at, environment, missing="N/A"), "T": element.state,
        "U": str(batch.uid), "V": instant(batch.submit_at, environment, missing="N/A"),
        "W": batch.licenses or "(null)", "Z": str(batch.directory),
    }  # fmt: skip


def _reason(element: Element) -> str:
    return {PENDING: element.reason, "TIMEOUT": "TimeLimit"}.get(element.state, "NonZeroExitCode")


def _fill(form: str, fields: Mapping[str, str]) -> str:
    """Fill `%i`, `%.18i`, `%-8j`; a width cuts and pads."""

    def value(match: re.Match[str]) -> str:
        right, width, letter = match.groups()
        text = fields.get(letter, "")
        if not width:
            return text
        return text[: int(width)].rjust(int(width)) if right else text[: int(width)].ljust(int(width))

    return re.sub(r"%(\.)?-?(\d+)?([a-zA-Z])", value, form)
