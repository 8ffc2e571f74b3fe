"""The model's sbatch: what it accepts, and what it refuses with the real one's words."""

from __future__ import annotations

import getpass
import grp
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.world.superfacility.arrays import parse_array
from tests.world.superfacility.batch_script import (
    BatchOptions,
    OptionError,
    combine,
    parse_arguments,
    parse_script,
    parse_time_limit_s,
)
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.hostlists import read_hosts
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import Batch
from tests.world.superfacility.model.limits import FAILED, RefusedError
from tests.world.superfacility.model.nodes import GPUS_PER_NODE
from tests.world.superfacility.model.troubles import Troubles
from tests.world.superfacility.model.words import read_instant

DEFAULT_QOS = "debug"
DEFAULT_TIME = "30"
UNLIMITED_S = 10**9


def sbatch(
    controller: Controller,
    troubles: Troubles,
    words: Sequence[str],
    *,
    directory: Path,
    stdin: str,
    environment: Mapping[str, str],
) -> Answer:
    """Answer `sbatch words`."""
    try:
        given = parse_arguments(words)
        script = _read_script(given, directory, stdin)
        options = combine(parse_script(script), given)
        troubles.refuse()
        batch = _batch(controller, options, script=script, words=words, directory=directory, environment=environment)
        controller.submit(batch)
    except (OptionError, RefusedError) as error:
        return Answer(1, "", f"{error}\n")
    if "parsable" in options.values:
        return Answer(0, f"{batch.job_id}\n", "")
    return Answer(0, f"Submitted batch job {batch.job_id}\n", "")


def _read_script(options: BatchOptions, directory: Path, stdin: str) -> str:
    if "wrap" in options.values:
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{options.get('wrap')}\n"
    script = stdin
    if options.script_path is not None:
        try:
            script = (directory / options.script_path).read_text()
        except (OSError, ValueError):
            raise RefusedError(f"sbatch: error: Unable to open file {options.script_path}") from None
    if not script:
        raise RefusedError("sbatch: error: Batch script is empty!")
    if not script.startswith("#!"):
        raise RefusedError(
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh"
        )
    return script


def _batch(
    controller: Controller,
    options: BatchOptions,
    *,
    script: str,
    words: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
) -> Batch:
    tasks, throttle = _check(controller, options)
    excluded = _hosts(controller, options.get("exclude"))
    _hosts(controller, options.get("nodelist"))
    begin_at, deadline_at = _instant(controller, options, "begin"), _instant(controller, options, "deadline")
    path = options.script_path
    home = directory / options.get("chdir", ".")
    job_id = controller.take_id()
    return Batch(
        job_id=job_id,
        name=options.get("job-name", "wrap" if "wrap" in options.values else Path(path).name if path else "sbatch"),
        comment=options.get("comment"),
        account=controller.account,
        qos=options.get("qos", DEFAULT_QOS),
        partition="regular",
        user=getpass.getuser(),
        uid=os.getuid(),
        group=_group(),
        time_limit_s=parse_time_limit_s(options.get("time", DEFAULT_TIME)) or UNLIMITED_S,
        nodes=int(options.get("nodes", "1").partition("-")[0]),
        constraint=options.get("constraint"),
        licenses=options.get("licenses"),
        output=options.get("output", "slurm-%j.out" if tasks is None else "slurm-%A_%a.out"),
        error=options.get("error"),
        directory=home,
        command=str(directory / path) if path else "",
        submit_line=shlex.join(["sbatch", *words]),
        script=script,
        script_args=tuple(options.script_args),
        environment=dict(environment),
        tasks=tasks,
        throttle=throttle,
        held="hold" in options.values,
        requeue="no-requeue" not in options.values,
        excluded=frozenset(excluded),
        gpus=_gpus(controller, options),
        begin_at=begin_at,
        deadline_at=deadline_at,
        submit_at=controller.time,
        accepted_at=controller.clock.wall(),
        priority=4_294_901_760 - job_id,
    )


def _check(controller: Controller, options: BatchOptions) -> tuple[tuple[int, ...] | None, int | None]:
    """Return the array's tasks and throttle; raises RefusedError or OptionError in the order of the real checks."""
    if (partition := options.get("partition", "regular")) != "regular":
        raise RefusedError(
            f"sbatch: error: invalid partition specified: {partition}\n{FAILED}Invalid partition name specified"
        )
    parse_time_limit_s(options.get("time", DEFAULT_TIME))
    count = options.get("nodes", "1")
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?", count):
        raise RefusedError(f'sbatch: error: "{count}" is not a valid node count')
    if int(count.partition("-")[0]) == 0:
        raise RefusedError(f"{FAILED}Node count specification invalid")
    try:
        numbers, throttle = parse_array(options.get("array")) if "array" in options.values else (None, None)
    except ValueError:
        raise RefusedError(f"{FAILED}Invalid job array specification") from None
    if options.get("account", controller.account) != controller.account:
        raise RefusedError(f"{FAILED}Invalid account or account/partition combination specified")
    if options.get("qos", DEFAULT_QOS) not in controller.qos:
        raise RefusedError(f"{FAILED}Invalid qos specification")
    if any(feature not in controller.nodes.names for feature in options.get("constraint", "cpu").split("&")):
        raise RefusedError(f"{FAILED}Invalid feature specification")
    if options.get("licenses"):
        raise RefusedError(f"{FAILED}Invalid license specification")
    return (None if numbers is None else tuple(numbers)), throttle


def _group() -> str:
    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())


def _hosts(controller: Controller, text: str) -> list[str]:
    try:
        names = read_hosts(text) if text else []
    except ValueError:
        names = [text]
    if any(name not in controller.nodes for name in names):
        raise RefusedError(f"{FAILED}Invalid node name specified")
    return names


def _instant(controller: Controller, options: BatchOptions, name: str) -> float | None:
    if name not in options.values:
        return None
    try:
        return controller.clock.of_wall(read_instant(options.get(name), controller.clock.wall()))
    except ValueError:
        text = f"Invalid time specification (pos=0): {options.get(name)}"
        raise RefusedError(f"{text}\nsbatch: error: Invalid --{name} specification") from None


def _gpus(controller: Controller, options: BatchOptions) -> int:
    asked = next((options.values[name] for name in ("gpus-per-node", "gpus", "gres") if name in options.values), None)
    if asked is None:
        return 0
    number = asked.rpartition(":")[2]
    if (
        "gpu" not in controller.nodes.names
        or not number.isdigit()
        or int(number) > GPUS_PER_NODE * controller.nodes.total("gpu")
    ):
        raise RefusedError("sbatch: error: Invalid generic resource (gres) specification")
    return int(number)
