"""The model's sacct: every batch job there ever was; the comment only once the job has ended, as with job_comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.world.superfacility.arrays import LIST_MAX_CHARACTERS, format_tasks
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.columns import SACCT_COLUMNS, SACCT_JOB_CONSTANTS, SACCT_STEP_CONSTANTS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import COMPLETING, CONFIGURING, ENDED_STATES, PENDING, RUNNING, Batch, Element
from tests.world.superfacility.model.sheet import Template
from tests.world.superfacility.model.words import (
    Instants,
    option,
    read_ids,
    read_instant,
    read_options,
    read_states,
    span,
)

# sacct takes this from an exit code at or above it, as if a shell had told of a signal.
SIGNALLED = 128
DEFAULT_FORMAT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
LONG = (
    "allocations", "noheader", "parsable2", "parsable", "jobs=", "user=", "accounts=", "starttime=", "endtime=",
    "state=", "format=", "name=", "qos=", "partition=", "allusers", "duplicates", "nodelist=",
)  # fmt: skip
COLUMNS = {name: name for name in SACCT_COLUMNS}
SHARED_CHANGING = frozenset(
    {
        "AllocCPUS", "NCPUS", "AllocNodes", "NodeList", "CPUTime", "CPUTimeRAW", "DBIndex", "Elapsed", "ElapsedRaw",
        "Start", "End", "Eligible", "AllocTRES", "ExitCode", "JobID", "JobIDRaw", "State", "Submit", "DerivedExitCode",
    }
)  # fmt: skip
JOB_CHANGING = SHARED_CHANGING | {"Comment", "Reason", "Reserved", "ResvCPU", "ResvCPURAW", "Priority", "Suspended"}


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, and the records that answer it, each in the state that accounting knows."""

    options: dict[str, str]
    columns: list[str]
    steps: bool
    records: list[tuple[Element, str]]


def sacct(controller: Controller, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Answer `sacct words`."""
    asked = select(controller, words)
    if isinstance(asked, Answer):
        return asked
    lines = [] if option(asked.options, "-n", "--noheader") is not None else ["|".join(asked.columns)]
    write = Writer(controller, environment, asked.columns)
    lines += [template.line(values) for template, values in write.all(asked)]
    end = "|\n" if option(asked.options, "-p", "--parsable") is not None else "\n"
    return Answer(0, "".join(line + end for line in lines), "")


def sacct_objects(controller: Controller, words: Sequence[str]) -> list[str] | Answer:
    """Return the rows of `sacct -P -o ALL words` as the API's JSON objects."""
    asked = select(controller, words)
    if isinstance(asked, Answer):
        return asked
    write = Writer(controller, {}, SACCT_COLUMNS)
    return [text for template, values in write.all(asked) for text in template.objects(values)]


def select(controller: Controller, words: Sequence[str]) -> Asked | Answer:
    """Read the command line and find its records; an Answer is what a wrong one is answered with."""
    read = read_options("sacct", words, "XnPpj:u:A:S:E:s:o:q:r:aDN:", LONG)
    if isinstance(read, Answer):
        return read
    options, _ = read
    columns = _columns(option(options, "-o", "--format") or DEFAULT_FORMAT)
    if isinstance(columns, Answer):
        return columns
    states = read_states(option(options, "-s", "--state") or "all")
    if states is None:
        return Answer(1, "", f"sacct: fatal: unrecognized job state value '{option(options, '-s', '--state')}'\n")
    given = option(options, "-j", "--jobs")
    ids = read_ids(given) if given is not None else []
    if ids is None:
        return Answer(1, "", f"sacct: fatal: Bad job/step specified: {given}\n")
    wall = controller.clock.wall()
    try:
        since = read_instant(option(options, "-S", "--starttime") or ("uts0" if ids else "midnight"), wall)
        until = read_instant(option(options, "-E", "--endtime") or "now", wall)
    except ValueError:
        text = option(options, "-S", "--starttime") or option(options, "-E", "--endtime")
        return Answer(1, "", f"Invalid time specification (pos=0): {text}\n")
    # An instant is shown in whole seconds: one within the last second has not passed yet.
    window = (controller.clock.of_wall(since), controller.clock.of_wall(until + 1))
    found = [element for word in ids for element in controller.find(word)]
    batches = list({element.batch: None for element in found}) if ids else list(controller.batches.values())
    batches = [batch for batch in batches if _asked_for(batch, options)]
    chosen = set(found) if ids else None
    seen_at = controller.time - controller.pace.sacct_lag_s
    lagging = controller.pace.sacct_lag_s > 0
    records: list[tuple[Element, str]] = []
    for element in _records(controller, batches, chosen, duplicates=option(options, "-D", "--duplicates") is not None):
        state = element.state_at(seen_at) if lagging else element.state
        within = element.batch.submit_at <= window[1] and (element.end_at is None or element.end_at >= window[0])
        if state is not None and within and (not states or state in states):
            records.append((element, state))
    return Asked(options, columns, option(options, "-X", "--allocations") is None, records)


def _columns(asked: str) -> list[str] | Answer:
    if asked.upper() == "ALL":
        return list(SACCT_COLUMNS)
    by_name = {name.lower(): name for name in SACCT_COLUMNS}
    columns: list[str] = []
    for word in asked.split(","):
        name = word.partition("%")[0].lower()
        if name not in by_name:
            return Answer(1, "", f'sacct: error: Invalid field requested: "{word}"\n')
        columns.append(by_name[name])
    return columns


def _records(
    controller: Controller, batches: Sequence[Batch], chosen: set[Element] | None, *, duplicates: bool
) -> Iterator[Element]:
    """One element for each record: those of an array that never started share one; a requeued job's earlier start."""
    former: dict[tuple[Batch, int | None], list[Element]] = {}
    for record in controller.former:
        former.setdefault((record.batch, record.index), []).append(record)
    for batch in batches:
        never: list[Element] = []
        for element in batch.elements if chosen is None else [item for item in batch.elements if item in chosen]:
            earlier = former.get((batch, element.index), ()) if element.restarts else ()
            if element.raw_id is None:
                never.append(element)
            elif earlier and element.pending and not duplicates:
                yield earlier[-1]
            else:
                yield from earlier if duplicates else ()
                yield element
        if never and not any(element.raw_id == batch.job_id for element in batch.elements):
            yield next((element for element in never if element.state == PENDING), never[-1])


def _asked_for(batch: Batch, options: Mapping[str, str]) -> bool:
    for given, own in (
        (option(options, "-u", "--user"), batch.user),
        (option(options, "--name"), batch.name),
        (option(options, "-A", "--accounts"), batch.account),
        (option(options, "-q", "--qos"), batch.qos),
        (option(options, "-r", "--partition"), batch.partition),
    ):
        if given is not None and own not in given.split(","):
            return False
    return True


class Writer:
    """Writes records; templates last as long as one listing."""

    def __init__(self, controller: Controller, environment: Mapping[str, str], columns: Sequence[str]) -> None:
        self._controller = controller
        self._instants = Instants(controller.clock, environment)
        self._columns = {name: name for name in columns}
        self._templates: dict[Batch, tuple[Template, Template]] = {}

    def all(self, asked: Asked) -> Iterator[tuple[Template, dict[str, str]]]:
        """Yield each record's row and, once it has started, its `.batch` step's."""
        for element, state in asked.records:
            job, step = self._of(element.batch)
            values = self._values(element, state)
            yield job, values
            if asked.steps and values["AllocNodes"] != "0":
                yield step, self._step_values(element, state, values)

    def _of(self, batch: Batch) -> tuple[Template, Template]:
        if batch not in self._templates:
            memory, nodes = f"mem={500 * batch.nodes}G", str(batch.nodes)
            shared = {"Account": batch.account, "NNodes": nodes, "ReqNodes": nodes}
            limit_s = batch.time_limit_s
            job = SACCT_JOB_CONSTANTS | shared | {
                "Constraints": batch.constraint, "GID": str(batch.uid), "Group": batch.group, "JobName": batch.name,
                "Partition": batch.partition, "QOS": batch.qos,
                "ReqTRES": f"billing={nodes},cpu={nodes},{memory},node={nodes}", "SubmitLine": batch.submit_line,
                "Timelimit": span(limit_s, padded=True) if limit_s < 10**9 else "UNLIMITED",
                "TimelimitRaw": str(limit_s // 60) if limit_s < 10**9 else "UNLIMITED", "UID": str(batch.uid),
                "User": batch.user, "WorkDir": str(batch.directory),
            }  # fmt: skip
            self._templates[batch] = (
                Template(self._columns, job, JOB_CHANGING),
                Template(self._columns, SACCT_STEP_CONSTANTS | shared | {"ReqCPUS": ""}, SHARED_CHANGING | {"ReqCPUS"}),
            )
        return self._templates[batch]

    def _values(self, element: Element, state: str) -> dict[str, str]:
        batch, write, now = element.batch, self._instants, self._controller.time
        start_at = None if state == PENDING else element.start_at
        ended = state in ENDED_STATES or state == "REQUEUED"
        end_at = element.end_at if ended else None
        run_s = int(element.run_s(now)) if start_at is not None else 0
        started = start_at is not None
        cpus = self._controller.nodes.cpus * batch.nodes if started else batch.nodes
        waited_s = int(start_at - element.submit_at) if start_at is not None else 0
        label, raw = element.label, str(element.raw_id)
        if element.raw_id is None:
            raw = str(batch.job_id)
            never = [item.index or 0 for item in batch.never_started()]
            tasks = format_tasks(never, throttle=batch.throttle, cut=False)
            label = f"{raw}_[{tasks}]" if len(tasks) <= LIST_MAX_CHARACTERS else raw
        shown = RUNNING if state in (COMPLETING, CONFIGURING) else state
        if state == "CANCELLED" and element.cancelled_by is not None:
            shown = f"CANCELLED by {element.cancelled_by}"
        cpu_s = cpus * run_s
        waited = span(waited_s, padded=True)
        return {
            "AllocCPUS": str(cpus), "NCPUS": str(cpus), "AllocNodes": str(batch.nodes if started else 0),
            "NodeList": element.node_list if started else "None assigned", "CPUTime": span(cpu_s, padded=True),
            "CPUTimeRAW": str(cpu_s), "DBIndex": raw, "Elapsed": span(run_s, padded=True), "ElapsedRaw": str(run_s),
            "Start": write(start_at, missing="None" if ended else "Unknown"), "End": write(end_at, missing="Unknown"),
            "Eligible": write(element.eligible_at, missing="Unknown"), "Submit": write(element.submit_at, missing=""),
            "AllocTRES": f"billing={cpus},cpu={cpus},mem={500 * batch.nodes}G,node={batch.nodes}" if started else "",
            "Comment": batch.comment if ended else "", "Reason": element.reason or "None",
            "ExitCode": f"{element.exit_code % SIGNALLED}:{element.exit_signal}", "DerivedExitCode": "0:0",
            "JobID": label, "JobIDRaw": raw, "State": shown, "Reserved": waited, "ResvCPU": waited,
            "ResvCPURAW": str(waited_s), "Priority": str(0 if element.held else batch.priority),
            "Suspended": span(element.suspended_s, padded=True),
        }  # fmt: skip

    def _step_values(self, element: Element, state: str, values: dict[str, str]) -> dict[str, str]:
        killed = state in ("CANCELLED", "TIMEOUT")
        return values | {
            "AllocTRES": values["AllocTRES"].partition(",")[2], "ReqCPUS": values["NCPUS"],
            "ExitCode": "0:15" if killed else values["ExitCode"], "DerivedExitCode": "",
            "JobID": f"{values['JobID']}.batch", "JobIDRaw": f"{values['JobIDRaw']}.batch", "Submit": values["Start"],
            "Eligible": values["Start"],
            "State": "CANCELLED" if killed or (element.exit_signal and state in ENDED_STATES) else values["State"],
        }  # fmt: skip
