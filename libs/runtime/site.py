"""The site file: one TOML file that every service reads; this module is its whole schema.

Unknown keys stop the start and name the nearest valid one. Secrets are named by file path only. What differs per
container comes from the environment (`Environment`). Lengths of time are in seconds, sizes in bytes.
"""

import difflib
import os
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from libs.runtime.errors import Misconfigured

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShortName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
Address = Annotated[str, Meta(pattern=r"^\[?[A-Za-z0-9_.:-]+\]?:[0-9]{1,5}$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Identity(_Table, frozen=True, kw_only=True):
    """Who runs this site: its ALICE name, and a contact that goes into every request to the facility."""

    name: str
    contact: str


class CentralServices(_Table, frozen=True, kw_only=True):
    """ALICE's central services: where, and as whom. `ca` is a PEM file or a directory of trust anchors.

    Each CE is polled every `poll_interval_s`, sooner after a burst of changed job agents, never within `poll_floor_s`.
    """

    host: str = "alice-jcentral.cern.ch"
    port: Positive = 8098
    ca: Path
    certificate: Path
    key: Path
    account: str
    verify_name: bool = True
    read_timeout_s: Seconds = 60.0
    poll_interval_s: Seconds = 60.0
    poll_floor_s: Seconds = 10.0


class Machine(_Table, frozen=True, kw_only=True):
    """One supercomputer behind the Superfacility API.

    `settle_time_s`: how long a POST may still be executed late; `listing_lag_s`: how long an accepted batch job may be
    absent from listings. `missing_share`: the share of the active agents that may be missing from one listing at once
    before it counts as incomplete. `requests_per_s` is the API's limit for our client, shared out over our processes.
    """

    api_url: str = "https://api.nersc.gov/api/v1.2"
    token_url: str = "https://oidc.nersc.gov/c2id/token"
    client_id_file: Path
    client_key_file: Path
    user: str
    time_zone: str = "America/Los_Angeles"
    requests_per_s: Seconds = 2.0
    concurrency: Positive = 4
    listing_interval_s: Seconds = 60.0
    listing_floor_s: Seconds = 5.0
    listing_rows_limit: Positive = 20000
    facility_interval_s: Seconds = 300.0
    settle_time_s: Seconds = 600.0
    listing_lag_s: Seconds = 120.0
    missing_share: Share = 0.2


class Batch(_Table, frozen=True, kw_only=True):
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


class Agent(_Table, frozen=True, kw_only=True):
    """How a job agent starts on a worker node. `token_file`: what cert_renewer writes, as the worker nodes see it."""

    command: str
    token_file: str
    environment: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}


class Limits(_Table, frozen=True, kw_only=True):
    """Bounds of our own, beside ALICE's and Slurm's.

    `shadow_max_jobs` and `shadow_max_queued` stand for ALICE's limits in shadow mode, where they are not asked.
    """

    agents_per_submission: Annotated[int, Meta(ge=1, le=1000)] = 500
    agents_per_decision: Positive = 500
    user_jobs_in_qos: Positive = 5000
    shadow_max_jobs: Count | None = None
    shadow_max_queued: Count | None = None


class Ce(_Table, frozen=True, kw_only=True):
    """One Computing Element: its full ALICE name, the machine it feeds, and the shape of its job agents.

    `ttl_s` is how long an agent may run grid jobs, `cores` 0 means the whole node.
    `demand_max_age_s` and `listing_max_age_s`: older observations count as unknown. `match_lag_s`: how long a started
    agent may take to pull its first grid job. `mode`: in shadow all is observed, decided and journalled, but nothing is
    submitted nor told to anyone, while another CE runs under the same name.
    """

    name: Annotated[str, Meta(pattern=r"^[^:]+::[^:]+::[^:]+$")]
    host: str
    machine: ShortName
    mode: typing.Literal["active", "shadow"] = "active"
    batch: Batch
    agent: Agent
    limits: Limits = Limits()
    grid_jobs_per_agent: Positive = 1
    ttl_s: Positive = 82800
    cores: Count = 0
    partition: str = ""
    platform: str = "Linux-x86_64"
    match_lag_s: Seconds = 60.0
    decision_interval_s: Seconds = 30.0
    demand_max_age_s: Seconds = 300.0
    listing_max_age_s: Seconds = 300.0


class Monitoring(_Table, frozen=True, kw_only=True):
    """The relay of ApMon datagrams. `public_address` is how worker nodes reach it (their APMON_CONFIG)."""

    listen: Address = "0.0.0.0:8884"
    public_address: str
    destinations: list[Address]
    buffer_bytes: Positive = 8 << 20
    ring_bytes: Positive = 32 << 20
    report_interval_s: Seconds = 60.0


class Credentials(_Table, frozen=True, kw_only=True):
    """What cert_renewer watches and writes. `host_certificate_directory` holds hostcert.pem and hostkey.pem."""

    host_certificate_directory: Path
    token_file: Path
    token_days: Annotated[int, Meta(ge=1, le=2)] = 2
    token_refresh_s: Seconds = 300.0
    check_interval_s: Seconds = 60.0


class Bus(_Table, frozen=True, kw_only=True):
    """NATS: where, how long a first connection may take, and how many copies streams and buckets have."""

    url: str = "nats://127.0.0.1:4222"
    connect_patience_s: Seconds = 30.0
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1


class Telemetry(_Table, frozen=True, kw_only=True):
    """The small HTTP port of each service, and an OpenTelemetry collector if there is one."""

    http_listen: Address = "0.0.0.0:8080"
    otlp_endpoint: str = ""


class Site(_Table, frozen=True, kw_only=True):
    """The whole site file."""

    site: Identity
    central_services: CentralServices
    machine: dict[ShortName, Machine]
    ce: dict[ShortName, Ce]
    monitoring: Monitoring
    credentials: Credentials
    bus: Bus = Bus()
    telemetry: Telemetry = Telemetry()


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What differs per container: NACRE_CONFIG, NACRE_NATS_URL, NACRE_INSTANCE, NACRE_HTTP_LISTEN, NACRE_LOG*."""

    config: str = ""
    nats_url: str = ""
    instance: str = ""
    http_listen: str = ""
    log_format: str = ""
    log_level: str = "INFO"


def environment(variables: typing.Mapping[str, str] = os.environ) -> Environment:
    """Read NACRE_* from the environment; an unknown NACRE_ variable is Misconfigured."""
    found = {name.removeprefix("NACRE_").lower(): text for name, text in variables.items() if name.startswith("NACRE_")}
    _refuse_unknown(found, Environment, "environment, NACRE_")
    return msgspec.convert(found, Environment)


def load(path: str | Path) -> Site:
    """Read and check the site file. Misconfigured says the file, the key, and what to do."""
    try:
        raw = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"site file {path} cannot be read: {error}. Set NACRE_CONFIG or --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"site file {path} is not TOML: {error}") from error
    _refuse_unknown(raw, Site, f"site file {path}, ")
    try:
        site = msgspec.convert(raw, Site, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"site file {path}: {error}") from error
    _refuse_inconsistent(site, path)
    return site


def _path(expected: type, text: Any) -> Path:
    # msgspec knows no paths; it turns what is raised here into its own error with the key's place.
    if expected is not Path or not isinstance(text, str):
        raise TypeError(f"expected a path, got {type(text).__name__}")
    return Path(text)


def _refuse_inconsistent(site: Site, path: str | Path) -> None:
    if not site.ce:
        raise Misconfigured(f"site file {path}: no [ce.<short name>] table; at least one CE is needed")
    for short_name, ce in site.ce.items():
        if ce.machine not in site.machine:
            hint = _nearest(ce.machine, site.machine)
            raise Misconfigured(
                f"site file {path}: ce.{short_name}.machine is {ce.machine!r}, which has no table{hint}"
            )
        if ce.mode == "shadow" and None in (ce.limits.shadow_max_jobs, ce.limits.shadow_max_queued):
            raise Misconfigured(
                f"site file {path}: ce.{short_name}.mode is 'shadow', in which ALICE's limits are not asked: "
                f"set shadow_max_jobs and shadow_max_queued in ce.{short_name}.limits"
            )
        if ce.ttl_s >= ce.batch.time_limit_s:
            raise Misconfigured(
                f"site file {path}: ce.{short_name}.ttl_s ({ce.ttl_s}) must be below its batch.time_limit_s "
                f"({ce.batch.time_limit_s}), or Slurm ends agents before they end themselves"
            )
    names = [ce.name for ce in site.ce.values()]
    if len(set(names)) != len(names):
        raise Misconfigured(f"site file {path}: two CEs have the same name")


def _nearest(word: str, valid: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; valid are {', '.join(sorted(valid))}"


def _refuse_unknown(raw: Any, expected: Any, where: str) -> None:
    """Walk the file beside its schema, so that a misspelt key is named with the nearest valid one."""
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct) and isinstance(raw, dict):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(expected)}
        for key, inner in raw.items():
            if key not in fields:
                raise Misconfigured(f"{where}{key}: no such setting{_nearest(key, fields)}")
            _refuse_unknown(inner, fields[key], f"{where}{key}{'' if where.endswith('_') else '.'}")
    elif typing.get_origin(expected) is dict and isinstance(raw, dict):
        for key, inner in raw.items():
            _refuse_unknown(inner, typing.get_args(expected)[1], f"{where}{key}.")
