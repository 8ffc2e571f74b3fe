"""The model's scancel, scontrol and sinfo."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.world.superfacility.arrays import format_tasks
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import RUNNING, SUSPENDED, Element
from tests.world.superfacility.model.runner import fill_pattern
from tests.world.superfacility.model.troubles import Troubles
from tests.world.superfacility.model.words import Instants, option, read_ids, read_options, read_states, span

CANCEL_LONG = ("user=", "name=", "state=", "account=", "qos=", "partition=", "quiet", "verbose", "me", "full", "batch")
UNKNOWN_ID = "Invalid job id specified"


def scancel(controller: Controller, words: Sequence[str]) -> Answer:
    """Answer `scancel words`; unknown ids are passed over in silence, as Slurm does."""
    read = read_options("scancel", words, "u:n:t:A:q:p:Qvfb", CANCEL_LONG)
    if isinstance(read, Answer):
        return read
    options, given = read
    ids: list[str] = []
    for word in given:
        read_one = read_ids(word)
        if not read_one:
            return Answer(1, "", f"scancel: error: Invalid job id {word}\n")
        ids += read_one
    wanted = {
        "user": option(options, "-u", "--user"),
        "name": option(options, "-n", "--name"),
        "account": option(options, "-A", "--account"),
        "qos": option(options, "-q", "--qos"),
        "partition": option(options, "-p", "--partition"),
    }
    states = read_states(option(options, "-t", "--state") or "all")
    if states is None:
        return Answer(1, "", f"scancel: error: Invalid job state specified: {option(options, '-t', '--state')}\n")
    if not ids and not any(wanted.values()) and not states and "--me" not in options:
        return Answer(1, "", "scancel: error: No job identification provided\n")
    controller.scheduler.reasons()
    found = [item for word in ids for item in controller.find(word)] if ids else list(controller.known())
    for element in found:
        if states and element.state not in states:
            continue
        if all(word is None or getattr(element.batch, name) in word.split(",") for name, word in wanted.items()):
            controller.cancel(element)
    return Answer(0, "", "")


def scontrol(
    controller: Controller, troubles: Troubles, words: Sequence[str], environment: Mapping[str, str]
) -> Answer:
    """Answer `scontrol show job`, `ping`, `hold`, `release`, `suspend`, `resume`, `requeue` and `requeuehold`."""
    rest = [word for word in words if not word.startswith("-")]
    if rest[:1] == ["ping"]:
        return Answer(0, "Slurmctld(primary) at model is UP\n", "")
    if len(rest) > 1 and rest[0] in ("hold", "uhold", "release", "suspend", "resume", "requeue", "requeuehold"):
        return _order(controller, troubles, rest[0], rest[1])
    if len(rest) < 2 or rest[0] != "show" or rest[1] not in ("job", "jobs", "jobid"):
        return Answer(1, "", f"invalid keyword: {' '.join(rest)}\n")
    controller.scheduler.reasons()
    ids = rest[2].split(",") if len(rest) > 2 else []
    found = [item for word in ids for item in controller.find(word)] if ids else controller.known()
    known = [item for item in found if controller.knows(item)]
    if ids and not known:
        if "_" in ids[0]:
            return Answer(1, "", f"Job {ids[0]} not found\n")
        return Answer(1, "", f"slurm_load_jobs error: {UNKNOWN_ID}\n")
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


def _order(controller: Controller, troubles: Troubles, order: str, given: str) -> Answer:
    for word in given.split(","):
        found = [item for item in controller.find(word) if item.end_at is None]
        if not found:
            texts = {"hold": f"\nslurm_suspend error: {UNKNOWN_ID}", "release": f"\nslurm_suspend error: {UNKNOWN_ID}"}
            return Answer(1, "", f"{UNKNOWN_ID} for job {word}{texts.get(order, '')}\n")
        for element in found:
            if order in ("requeue", "requeuehold") and element.pending:
                return Answer(1, "", f"Job is pending execution for job {word}\n")
            if order == "suspend" and element.state != RUNNING and not element.pending:
                return Answer(1, "", f"Job is no longer pending execution for job {word}\n")
            troubles.order(element, order)
    return Answer(0, "", "")


def sinfo(controller: Controller, words: Sequence[str]) -> Answer:
    """Answer `sinfo` by `-o` with %t, %T, %D and %P only, one line for each state of a node."""
    read = read_options("sinfo", words, "ho:N", ("noheader", "format=", "Node"))
    if isinstance(read, Answer):
        return read
    busy = {name for element in controller.running() for name in element.nodes}
    states: Counter[str] = Counter()
    for name in controller.nodes.all():
        states[controller.nodes.down.get(name) or ("alloc" if name in busy else "idle")] += 1
    form = option(read[0], "-o", "--format") or "%P %t %D"
    long = {"alloc": "allocated", "drain": "drained"}
    lines = [] if option(read[0], "-h", "--noheader") is not None else ["PARTITION STATE NODES"]
    for state, count in states.items():
        fields = {"%t": state, "%T": long.get(state, state), "%D": str(count), "%P": "regular*"}
        line = form
        for gap, text in fields.items():
            line = line.replace(gap, text)
        lines.append(line)
    return Answer(0, "".join(f"{line}\n" for line in lines), "")


def _show(controller: Controller, element: Element, environment: Mapping[str, str]) -> str:
    batch, write = element.batch, Instants(controller.clock, environment)
    array = ""
    if batch.tasks is not None:
        waiting = [item.index or 0 for item in batch.waiting] if element.raw_id is None else [element.index or 0]
        array = f"ArrayJobId={batch.job_id} ArrayTaskId={format_tasks(waiting, throttle=batch.throttle)} "
    end_at = element.end_at
    if end_at is None and element.start_at is not None:
        end_at = element.start_at + batch.time_limit_s
    start, end, submit, eligible = (
        write(moment, missing="Unknown")
        for moment in (element.start_at, end_at, element.submit_at, element.eligible_at)
    )
    cpus = controller.nodes.cpus * batch.nodes if element.start_at is not None else batch.nodes
    output = fill_pattern(batch.output, element)
    limit = span(batch.time_limit_s, padded=True) if batch.time_limit_s < 10**9 else "UNLIMITED"
    run = span(element.run_s(controller.time), padded=True)
    suspended = write(element.suspended_at, missing="None") if element.state == SUSPENDED else "None"
    lines = [
        f"JobId={element.raw_id or batch.job_id} {array}JobName={batch.name}",
        f"UserId={batch.user}({batch.uid}) GroupId={batch.group}({os.getgid()}) MCS_label=N/A",
        f"Priority={0 if element.held else batch.priority} Nice=0 Account={batch.account} QOS={batch.qos}",
        f"JobState={element.state} Reason={element.reason.replace(' ', '_')} Dependency=(null)",
        f"Requeue={batch.requeue * 1} Restarts={element.restarts} BatchFlag=1 Reboot=0 "
        f"ExitCode={element.exit_code}:{element.exit_signal}",
        f"RunTime={run} TimeLimit={limit} TimeMin=N/A",
        f"SubmitTime={submit} EligibleTime={eligible}",
        f"StartTime={start} EndTime={end} Deadline={write(batch.deadline_at, missing='N/A')}",
        f"SuspendTime={suspended} SecsPreSuspend=0",
        f"Partition={batch.partition}",
        f"NodeList={element.node_list if element.nodes else ''}",
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
