"""The model's sacct: every batch job there ever was; the comment only once the job has ended, as with job_comment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from tests.world.superfacility.arrays import LIST_MAX_CHARACTERS, format_tasks
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.columns import SACCT_COLUMNS, SACCT_JOB_CONSTANTS, SACCT_STEP_CONSTANTS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import ACTIVE_STATES, PENDING, Batch, Element
from tests.world.superfacility.model.words import instant, names, option, read_instant, read_options, read_states, span

# sacct takes this from an exit code at or above it, as if a shell had told of a signal.
SIGNALLED = 128
DEFAULT_FORMAT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
LONG = (
    "allocations", "noheader", "parsable2", "parsable", "jobs=", "user=", "accounts=", "starttime=", "endtime=",
    "state=", "format=", "name=", "qos=", "partition=", "allusers", "duplicates", "nodelist=",
)  # fmt: skip


def sacct(controller: Controller, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Answer `sacct words`."""
    read = read_options("sacct", words, "XnPpj:u:A:S:E:s:o:q:r:aDN:", LONG)
    if isinstance(read, Answer):
        return read
    options, _ = read
    asked = option(options, "-o", "--format") or DEFAULT_FORMAT
    by_name = {name.lower(): name for name in SACCT_COLUMNS}
    columns = SACCT_COLUMNS if asked.upper() == "ALL" else []
    for word in [] if columns else asked.split(","):
        name = word.partition("%")[0].lower()
        if name not in by_name:
            return Answer(1, "", f'sacct: fatal: Invalid field requested: "{word}"\n')
        columns = [*columns, by_name[name]]
    states = read_states(option(options, "-s", "--state") or "all")
    if states is None:
        return Answer(1, "", f"sacct: fatal: unrecognized job state value '{option(options, '-s', '--state')}'\n")
    ids = [word for word in (option(options, "-j", "--jobs") or "").split(",") if word]
    try:
        since = read_instant(option(options, "-S", "--starttime") or ("uts0" if ids else "midnight"))
        until = read_instant(option(options, "-E", "--endtime") or "now")
    except ValueError:
        text = option(options, "-S", "--starttime") or option(options, "-E", "--endtime")
        return Answer(1, "", f"Invalid time specification (pos=0): {text}\n")
    lines = [] if option(options, "-n", "--noheader") is not None else [list(columns)]
    steps = option(options, "-X", "--allocations") is None
    for element in records(controller):
        within = element.batch.submit_at <= until and (element.end_at is None or element.end_at >= since)
        chosen = (not states or element.state in states) and (names(element, ids) if ids else _was_eligible(element))
        if within and chosen and _asked_for(element.batch, options):
            lines += [[row[name] for name in columns] for row in rows(controller, element, environment, steps=steps)]
    end = "|" if option(options, "-p", "--parsable") is not None else ""
    return Answer(0, "".join("|".join(line) + end + "\n" for line in lines), "")


def records(controller: Controller) -> Iterator[Element]:
    """One element for each record: those of an array that never started share one."""
    for batch in controller.batches.values():
        yield from (element for element in batch.elements if element.raw_id is not None)
        never = batch.never_started()
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


def rows(
    controller: Controller, element: Element, environment: Mapping[str, str], *, steps: bool
) -> Iterator[dict[str, str]]:
    """Yield the job's row and, once it has started, its `.batch` step's."""
    batch = element.batch
    started = element.start_at is not None
    run_s = int((element.end_at or time.time()) - element.start_at) if element.start_at is not None else 0
    cpus = controller.cpus * batch.nodes if started else batch.nodes
    exit_code = f"{element.exit_code % SIGNALLED}:{element.exit_signal}"
    waited_s = int(element.start_at - batch.submit_at) if element.start_at is not None else 0
    ended = element.state not in ACTIVE_STATES
    label, raw = element.label, str(element.raw_id)
    if element.raw_id is None:
        raw = str(batch.job_id)
        tasks = format_tasks([item.index or 0 for item in batch.never_started()], throttle=batch.throttle, cut=False)
        label = f"{raw}_[{tasks}]" if len(tasks) <= LIST_MAX_CHARACTERS else raw
    shared = {
        "Account": batch.account, "AllocCPUS": str(cpus), "NCPUS": str(cpus), "NNodes": str(batch.nodes),
        "AllocNodes": str(batch.nodes if started else 0), "ReqNodes": str(batch.nodes),
        "NodeList": ",".join(element.nodes) or "None assigned", "CPUTime": span(cpus * run_s, padded=True),
        "CPUTimeRAW": str(cpus * run_s), "DBIndex": raw, "Elapsed": span(run_s, padded=True), "ElapsedRaw": str(run_s),
        "Start": instant(element.start_at, environment, missing="None" if ended else "Unknown"),
        "End": instant(element.end_at, environment, missing="Unknown"),
        "Eligible": instant(batch.submit_at, environment, missing="Unknown"),
    }  # fmt: skip
    yield dict.fromkeys(SACCT_COLUMNS, "") | SACCT_JOB_CONSTANTS | shared | {
        "AllocTRES": f"billing={cpus},cpu={cpus},mem={500 * batch.nodes}G,node={batch.nodes}" if started else "",
        "Comment": batch.comment if ended else "", "Constraints": batch.constraint,
        "ExitCode": exit_code, "GID": str(batch.uid), "Group": batch.group,
        "JobID": label, "JobIDRaw": raw, "JobName": batch.name, "Partition": batch.partition,
        "Priority": str(batch.priority), "QOS": batch.qos, "Reason": element.reason,
        "ReqTRES": f"billing={batch.nodes},cpu={batch.nodes},mem={500 * batch.nodes}G,node={batch.nodes}",
        "Reserved": span(waited_s, padded=True), "ResvCPU": span(waited_s, padded=True), "ResvCPURAW": str(waited_s),
        "State": element.accounting_state, "Submit": instant(batch.submit_at, environment, missing="Unknown"),
        "SubmitLine": batch.submit_line, "Timelimit": span(batch.time_limit_s, padded=True),
        "TimelimitRaw": str(batch.time_limit_s // 60), "UID": str(batch.uid), "User": batch.user,
        "WorkDir": str(batch.directory),
    }  # fmt: skip
    if steps and started:
        killed = element.state in ("CANCELLED", "TIMEOUT")
        yield dict.fromkeys(SACCT_COLUMNS, "") | SACCT_STEP_CONSTANTS | shared | {
            "AllocTRES": f"cpu={cpus},mem={500 * batch.nodes}G,node={batch.nodes}", "ReqCPUS": str(cpus),
            "ExitCode": "0:15" if killed else exit_code,
            "JobID": f"{label}.batch", "JobIDRaw": f"{raw}.batch", "Submit": shared["Start"],
            "State": "CANCELLED" if killed or element.exit_signal else element.accounting_state,
        }  # fmt: skip
