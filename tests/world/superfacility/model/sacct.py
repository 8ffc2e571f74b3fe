"""The model's sacct: every batch job there ever was; the comment only once the job has ended, as with job_comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.columns import SACCT_COLUMNS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import PENDING, Batch, Element
from tests.world.superfacility.model.records import Writer
from tests.world.superfacility.model.words import option, read_ids, read_instant, read_options, read_states

DEFAULT_FORMAT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
LONG = (
    "allocations", "noheader", "parsable2", "parsable", "jobs=", "user=", "accounts=", "starttime=", "endtime=",
    "state=", "format=", "name=", "qos=", "partition=", "allusers", "duplicates", "nodelist=",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, and the records that answer it, each in the state that accounting knows."""

    options: dict[str, str]
    columns: list[str]
    steps: bool
    records: list[tuple[Element, str]]

    def rows(self) -> list[tuple[Element, str, bool]]:
        """Return each record and, once it has started, its `.batch` step (True)."""
        if not self.steps:
            return [(element, state, False) for element, state in self.records]
        return [
            (element, state, step)
            for element, state in self.records
            for step in ((False, True) if element.start_at is not None and state != PENDING else (False,))
        ]


def sacct(controller: Controller, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Answer `sacct words`."""
    asked = select(controller, words)
    if isinstance(asked, Answer):
        return asked
    lines = [] if option(asked.options, "-n", "--noheader") is not None else ["|".join(asked.columns)]
    write = Writer(controller, environment, asked.columns)
    lines += [template.line(values) for template, values in write.all(asked.rows())]
    end = "|\n" if option(asked.options, "-p", "--parsable") is not None else "\n"
    return Answer(0, "".join(line + end for line in lines), "")


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
    controller.scheduler.reasons()
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
        shown = bool(ids) or _was_eligible(element)
        if state is not None and within and shown and (not states or state in states):
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


def _was_eligible(element: Element) -> bool:
    """Held and throttled jobs that never started are shown only to those who ask by id."""
    return element.start_at is not None or element.reason not in ("JobHeldUser", "JobArrayTaskLimit")


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
