"""The model's scancel and scontrol."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tests.world.superfacility.arrays import format_tasks
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import COMPLETING, PENDING, Element
from tests.world.superfacility.model.runner import fill_pattern
from tests.world.superfacility.model.words import instant, names, option, read_options, read_states, span

CANCEL_LONG = ("user=", "name=", "state=", "account=", "qos=", "partition=", "quiet", "verbose", "me", "full", "batch")


def scancel(controller: Controller, words: Sequence[str]) -> Answer:
    """Answer `scancel words`; unknown ids are passed over in silence, as Slurm does."""
    read = read_options("scancel", words, "u:n:t:A:q:p:Qvfb", CANCEL_LONG)
    if isinstance(read, Answer):
        return read
    options, ids = read
    for word in ids:
        if not all(piece.isdigit() for piece in word.split("_", 1)):
            return Answer(1, "", f"scancel: error: Invalid job id {word}\n")
    wanted = {
        "user": option(options, "-u", "--user"),
        "name": option(options, "-n", "--name"),
        "account": option(options, "-A", "--account"),
        "qos": option(options, "-q", "--qos"),
    }
    states = read_states(option(options, "-t", "--state") or "all")
    if not ids and not any(wanted.values()) and not states and "--me" not in options:
        return Answer(1, "", "scancel: error: No job identification provided\n")
    for element in list(controller.elements()):
        if (ids and not names(element, ids)) or (states and element.state not in states):
            continue
        if all(given is None or getattr(element.batch, name) in given.split(",") for name, given in wanted.items()):
            controller.cancel(element)
    return Answer(0, "", "")


def scontrol(controller: Controller, words: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Answer `scontrol show job ID` and `scontrol ping`."""
    rest = [word for word in words if not word.startswith("-")]
    if rest[:1] == ["ping"]:
        return Answer(0, "Slurmctld(primary) at model is UP\n", "")
    if len(rest) < 2 or rest[0] != "show" or rest[1] not in ("job", "jobs", "jobid"):
        return Answer(1, "", f"invalid keyword: {' '.join(rest)}\n")
    ids = rest[2].split(",") if len(rest) > 2 else []
    known = [item for item in controller.elements() if controller.known(item) and (not ids or names(item, ids))]
    if ids and not known:
        if "_" in ids[0]:
            return Answer(1, "", f"Job {ids[0]} not found\n")
        return Answer(1, "", "slurm_load_jobs error: Invalid job id specified\n")
    shown: list[str] = []
    listed: set[int] = set()
    for element in known:
        if element.raw_id is None:
            if element.batch.job_id in listed:
                continue
            listed.add(element.batch.job_id)
        shown.append(_show(controller, element, environment))
    text = "\n\n".join(shown) + "\n\n"
    if "-o" in words or "--oneliner" in words:
        text = "".join(" ".join(block.split("\n   ")) + "\n" for block in shown)
    return Answer(0, text, "")


def _show(controller: Controller, element: Element, environment: Mapping[str, str]) -> str:
    batch = element.batch
    run_s = ((element.end_at or time.time()) - element.start_at) if element.start_at is not None else 0.0
    array = ""
    if batch.tasks is not None:
        waiting = [item.index or 0 for item in batch.pending()] if element.state == PENDING else [element.index or 0]
        array = f"ArrayJobId={batch.job_id} ArrayTaskId={format_tasks(waiting, throttle=batch.throttle)} "
    end_at = element.end_at
    if end_at is None and element.start_at is not None:
        end_at = element.start_at + batch.time_limit_s
    start, end, submit = (
        instant(moment, environment, missing="Unknown") for moment in (element.start_at, end_at, batch.submit_at)
    )
    reason = element.reason if element.state == PENDING else "None"
    cpus = controller.cpus * batch.nodes if element.start_at is not None else batch.nodes
    output = fill_pattern(batch.output, element)
    state = COMPLETING if element.state == COMPLETING else element.state
    lines = [
        f"JobId={element.raw_id or batch.job_id} {array}JobName={batch.name}",
        f"UserId={batch.user}({batch.uid}) GroupId={batch.group}({batch.uid}) MCS_label=N/A",
        f"Priority={batch.priority} Nice=0 Account={batch.account} QOS={batch.qos}",
        f"JobState={state} Reason={reason} Dependency=(null)",
        f"Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={element.exit_code}:{element.exit_signal}",
        f"RunTime={span(run_s, padded=True)} TimeLimit={span(batch.time_limit_s, padded=True)} TimeMin=N/A",
        f"SubmitTime={submit} EligibleTime={submit}",
        f"StartTime={start} EndTime={end} Deadline=N/A",
        f"Partition={batch.partition}",
        f"NodeList={','.join(element.nodes)}",
        f"NumNodes={batch.nodes} NumCPUs={cpus} NumTasks=1 CPUs/Task=1",
        f"Features={batch.constraint or '(null)'}",
        f"Command={batch.command or '(null)'}",
        f"WorkDir={batch.directory}",
        *([f"Comment={batch.comment} "] if batch.comment else []),
        f"StdErr={batch.directory / batch.error if batch.error else output}",
        "StdIn=/dev/null",
        f"StdOut={output}",
    ]
    return "\n   ".join(lines)
