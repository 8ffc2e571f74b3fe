"""One Computing Element: what it submits, how its job agents start, its limits."""

import typing
from typing import Annotated

from msgspec import Meta

from libs.runtime.site.kinds import Count, JavaInt, Positive, Seconds, ShortName, Table


class Batch(Table, frozen=True, kw_only=True):
    """What a submission asks Slurm for. `directory` and `output` are paths on the worker nodes' file system."""

    account: str
    qos: str
    constraint: str = "cpu"
    time_limit_s: Positive = 86400
    nodes: Positive = 1
    licenses: str = ""
    directory: str
    output: str
    extra_lines: list[str] = []


class Agent(Table, frozen=True, kw_only=True):
    """How a job agent starts on a worker node. `token_file`: what cert_renewer writes, as the worker nodes see it."""

    command: str
    token_file: str
    environment: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}


class Limits(Table, frozen=True, kw_only=True):
    """Bounds of our own, beside ALICE's and Slurm's.

    `shadow_max_jobs` and `shadow_max_queued` stand for ALICE's limits in shadow mode, where they are not asked.
    """

    agents_per_submission: Annotated[int, Meta(ge=1, le=1000)] = 500
    agents_per_decision: Positive = 500
    user_jobs_in_qos: Positive = 5000
    shadow_max_jobs: Count | None = None
    shadow_max_queued: Count | None = None


class Ce(Table, frozen=True, kw_only=True):
    """One Computing Element: its full ALICE name, the machine it feeds, and the shape of its job agents.

    `ttl_s` is how long an agent may run grid jobs, `cores` 0 means the whole node.
    `demand_max_age_s` and `listing_max_age_s`: older observations count as unknown. `match_lag_s`: how long a started
    agent may take to pull its first grid job. `mode`: in shadow all is observed, decided and journalled, but nothing is
    submitted nor told to anyone, while another CE runs under the same name. ALICE's directory may set some of this
    (libs/runtime/site/overlay.py says in what order); what `pinned` names stays as it is here.
    """

    name: Annotated[str, Meta(pattern=r"^[^:]+::[^:]+::[^:]+$")]
    host: str
    machine: ShortName
    mode: typing.Literal["active", "shadow"] = "active"
    batch: Batch
    agent: Agent
    limits: Limits = Limits()
    grid_jobs_per_agent: Positive = 1
    ttl_s: JavaInt = 82800
    cores: Annotated[int, Meta(ge=0, le=4096)] = 0
    partition: str = ""
    platform: typing.Literal["Linux-x86_64", "Linux-aarch64"] = "Linux-x86_64"
    pinned: list[typing.Literal["ttl_s", "cores", "partition", "environment"]] = []
    match_lag_s: Seconds = 60.0
    decision_interval_s: Seconds = 30.0
    demand_max_age_s: Seconds = 300.0
    listing_max_age_s: Seconds = 300.0
