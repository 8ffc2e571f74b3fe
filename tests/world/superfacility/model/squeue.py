"""The model's squeue: what has not ended; a pending array is one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.world.superfacility.arrays import format_tasks
from tests.world.superfacility.commands import Answer, Pieces
from tests.world.superfacility.model.columns import SQUEUE_CONSTANTS, SQUEUE_HEADERS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import (
    ACTIVE_STATES,
    ENDED_STATES,
    FLAGGED_PENDING,
    FLAGGED_RUNNING,
    PENDING,
    STATE_CODES,
    Batch,
    Element,
)
from tests.world.superfacility.model.sheet import Template
from tests.world.superfacility.model.words import Instants, option, read_ids, read_options, read_states, span

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
ALL = "|".join(f"%{letter}" for letter in SQUEUE_HEADERS)
CHANGING = frozenset("eiprtABCKLMNQRSTV")
PRIORITY_SCALE = 2**32
JOBID_MAX_CHARACTERS = 31
END_REASONS = {
    "FAILED": "NonZeroExitCode", "TIMEOUT": "TimeLimit", "NODE_FAIL": "NodeDown", "DEADLINE": "DeadLine",
    "OUT_OF_MEMORY": "OutOfMemory", "BOOT_FAIL": "BootFailure",
}  # fmt: skip
LONG = (
    "noheader", "jobs=", "user=", "states=", "name=", "account=", "qos=", "partition=", "format=", "array", "me",
    "nodelist=", "sort=", "long",
)  # fmt: skip
VALID_STATES = (
    "PENDING,RUNNING,SUSPENDED,COMPLETED,CANCELLED,FAILED,TIMEOUT,NODE_FAIL,PREEMPTED,BOOT_FAIL,DEADLINE,"
    "OUT_OF_MEMORY,COMPLETING,CONFIGURING,RESIZING,RESV_DEL_HOLD,REQUEUED,REQUEUE_FED,REQUEUE_HOLD,REVOKED,SIGNALING,"
    "SPECIAL_EXIT,STAGE_OUT,STOPPED"
)


@dataclass(frozen=True)
class Row:
    """One line: an element in a state, or all pending elements of one array."""

    element: Element
    state: str
    pending: tuple[int, ...] | None


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, and the rows that answer it."""

    options: dict[str, str]
    rows: list[Row]


def squeue(controller: Controller, words: Sequence[str], environment: Mapping[str, str], *, lag_s: float) -> Answer:
    """Answer `squeue words`."""
    asked = select(controller, words, lag_s=lag_s)
    if isinstance(asked, Answer):
        return asked
    form = option(asked.options, "-o", "--format") or DEFAULT_FORMAT
    form = ALL if form in ("%all", "all") else form
    lines = [] if option(asked.options, "-h", "--noheader") is not None else [_line(form, SQUEUE_HEADERS) % {}]
    write = Writer(controller, environment)
    by_batch: dict[Batch, str] = {}
    for row in asked.rows:
        line = by_batch.get(row.element.batch)
        if line is None:
            line = by_batch[row.element.batch] = _line(form, write.fixed(row.element.batch), CHANGING)
        lines.append(line % write.values(row))
    return Answer(0, "".join(f"{line}\n" for line in lines), "")


def squeue_objects(controller: Controller, words: Sequence[str], page: slice, *, lag_s: float) -> list[Pieces] | Answer:
    """Return a page of the rows of `squeue words -o %all` as the API's JSON objects."""
    asked = select(controller, words, lag_s=lag_s)
    if isinstance(asked, Answer):
        return asked
    write = Writer(controller, {})
    return [it for row in asked.rows[page] for it in write.template(row.element.batch).objects(write.values(row))]


def select(controller: Controller, words: Sequence[str], *, lag_s: float) -> Asked | Answer:
    """Read the command line and find its rows; an Answer is what a wrong one is answered with."""
    read = read_options("squeue", words, "hj:u:t:n:A:q:p:o:raw:S:l", LONG)
    if isinstance(read, Answer):
        return read
    options, _ = read
    states = read_states(option(options, "-t", "--states") or ",".join((*ACTIVE_STATES, *FLAGGED_PENDING)))
    if states is None:
        text = f"squeue: error: Invalid job state specified: {option(options, '-t', '--states')}\n"
        return Answer(1, "", f"{text}squeue: error: Valid job states include: {VALID_STATES}\n\n")
    states |= {*FLAGGED_PENDING} if PENDING in states else set()
    states |= {*FLAGGED_RUNNING} if "RUNNING" in states else set()
    given = option(options, "-j", "--jobs")
    ids = read_ids(given) if given is not None else []
    if ids is None:
        return Answer(1, "", f"squeue: error: Invalid job id: {given}\n")
    seen_at = controller.time - lag_s
    found = [element for word in ids for element in controller.find(word) if controller.knows(element)]
    if len(ids) == 1 and not any(element.state_at(seen_at) for element in found):
        return Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n")
    known = dict.fromkeys(found) if ids else controller.known()
    controller.scheduler.reasons()
    wanted = _chooser(options)
    states_of = (
        (element, element.state_at(seen_at) if lag_s > 0 else element.state) for element in known if wanted(element)
    )
    chosen = [(element, state) for element, state in states_of if state and (not states or state in states)]
    rows = list(_rows(chosen, expand=option(options, "-r", "--array") is not None))
    rows.sort(key=lambda row: (row.state, row.element.held * 1, -row.element.batch.priority))
    return Asked(options, rows)


def _chooser(options: Mapping[str, str]) -> Callable[[Element], bool]:
    """Return the test of the options that choose by what was asked for, decided once for each batch."""
    wanted = [
        (name, given.split(","))
        for name, given in (
            ("user", option(options, "-u", "--user")),
            ("name", option(options, "-n", "--name")),
            ("account", option(options, "-A", "--account")),
            ("qos", option(options, "-q", "--qos")),
            ("partition", option(options, "-p", "--partition")),
        )
        if given is not None
    ]
    known: dict[Batch, bool] = {}

    def choose(element: Element) -> bool:
        batch = element.batch
        if batch not in known:
            known[batch] = all(getattr(batch, name) in values for name, values in wanted)
        return known[batch]

    nodes = option(options, "-w", "--nodelist")
    if nodes is None:
        return choose
    return lambda element: choose(element) and any(name in element.nodes for name in nodes.split(","))


def _rows(chosen: Sequence[tuple[Element, str]], *, expand: bool) -> Iterator[Row]:
    """One row for all pending tasks of an array, one for each other element."""
    waiting: dict[tuple[int, str], list[Element]] = {}
    for element, state in chosen:
        if element.raw_id is None or (state == PENDING and element.index is not None and not element.restarts):
            waiting.setdefault((element.batch.job_id, state), []).append(element)
        else:
            yield Row(element, state, None)
    for (_, state), group in waiting.items():
        if expand:
            yield from (Row(element, state, (element.index or 0,)) for element in group)
        else:
            yield Row(group[0], state, tuple(element.index or 0 for element in group))


class Writer:
    """Writes rows by letter; templates last as long as one listing."""

    def __init__(self, controller: Controller, environment: Mapping[str, str]) -> None:
        self._controller = controller
        self._instants = Instants(controller.clock, environment)
        # With SLURM_BITSTR_LEN=0 squeue prints the whole list.
        self._cut = environment.get("SLURM_BITSTR_LEN") != "0"
        self._fixed: dict[Batch, dict[str, str]] = {}
        self._templates: dict[Batch, Template] = {}
        self._alike: dict[tuple[object, ...], dict[str, str]] = {}

    def fixed(self, batch: Batch) -> dict[str, str]:
        """Return what all rows of a batch share."""
        if batch not in self._fixed:
            limit = span(batch.time_limit_s, padded=False) if batch.time_limit_s < 10**9 else "UNLIMITED"
            self._fixed[batch] = SQUEUE_CONSTANTS | {
                "a": batch.account, "f": batch.constraint or "(null)", "g": batch.group, "h": "NO", "j": batch.name,
                "k": batch.comment or "(null)", "l": limit, "o": batch.command or "(null)", "q": batch.qos,
                "u": batch.user, "x": ",".join(sorted(batch.excluded)), "D": str(batch.nodes), "F": str(batch.job_id),
                "G": str(batch.uid), "P": batch.partition, "U": str(batch.uid), "W": batch.licenses or "(null)",
                "Z": str(batch.directory), "b": f"gres:gpu:{batch.gpus}" if batch.gpus else "N/A",
            }  # fmt: skip
        return self._fixed[batch]

    def template(self, batch: Batch) -> Template:
        """Return the batch's row with its gaps."""
        if batch not in self._templates:
            self._templates[batch] = Template(SQUEUE_HEADERS, self.fixed(batch), CHANGING)
        return self._templates[batch]

    def values(self, row: Row) -> dict[str, str]:
        """Return what changes from row to row."""
        it, batch = row.element, row.element.batch
        if row.pending is None:
            tasks = "N/A" if it.index is None else str(it.index)
            return self._values(it, row.state) | {"i": it.label, "A": str(it.raw_id), "K": tasks}
        # Tasks that wait differ in little but their number, and there may be 100,000 of them.
        key = (batch, row.state, it.held, it.own_reason, it.submit_at, it.eligible_at, it.end_at, it.restarts)
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = self._values(it, row.state) | {"A": str(batch.job_id)}
        tasks = format_tasks(row.pending, throttle=batch.throttle, cut=self._cut)
        return alike | {"i": f"{batch.job_id}_[{tasks}]"[: JOBID_MAX_CHARACTERS if self._cut else None], "K": tasks}

    def _values(self, element: Element, state: str) -> dict[str, str]:
        batch, write = element.batch, self._instants
        waits = state == PENDING or state in FLAGGED_PENDING
        ended = state in ENDED_STATES
        start_at = None if waits else element.start_at
        run_s = element.run_s(self._controller.time) if start_at is not None else 0.0
        end_at = element.end_at if ended else None if start_at is None else start_at + batch.time_limit_s
        if waits and element.restarts:
            start_at, end_at = element.eligible_at, element.eligible_at + batch.time_limit_s
        elif ended and start_at is None:
            start_at = end_at
        reason = element.reason if waits or (ended and not element.nodes) else END_REASONS.get(state, "None")
        nodes = "" if waits else element.node_list
        cpus = self._controller.nodes.cpus * batch.nodes if nodes else batch.nodes
        priority = 0 if element.held else batch.priority
        shown = (
            nodes if nodes and (not ended or state == "CANCELLED") else "" if state == "CANCELLED" else f"({reason})"
        )
        if state == "NODE_FAIL":
            shown = nodes
        return {
            "e": write(end_at, missing="N/A"), "p": f"{priority / PRIORITY_SCALE:.14f}", "r": reason,
            "t": STATE_CODES[state], "B": element.nodes[0] if nodes else "n/a", "C": str(cpus),
            "L": span(max(0.0, batch.time_limit_s - run_s), padded=False), "M": span(run_s, padded=False),
            "N": nodes, "Q": str(priority), "R": shown, "S": write(start_at, missing="N/A"), "T": state,
            "V": write(element.submit_at, missing="N/A"),
        }  # fmt: skip


def _line(form: str, fixed: Mapping[str, str], changing: frozenset[str] = frozenset()) -> str:
    """Return a line of `%i`, `%.18i`, `%-8j` as Python's format with what is fixed filled in: a width cuts and pads."""
    pieces = re.split(r"%(\.)?-?(\d+)?([a-zA-Z])", form)
    line = pieces[0].replace("%", "%%")
    for right, width, letter, after in zip(pieces[1::4], pieces[2::4], pieces[3::4], pieces[4::4], strict=True):
        shape = f"{'' if right else '-'}{width}.{width}s" if width else "s"
        value = (
            f"%({letter}){shape}" if letter in changing else (f"%{shape}" % fixed.get(letter, "")).replace("%", "%%")
        )
        line += value + after.replace("%", "%%")
    return line
