"""The site file: one TOML file that every service reads; this module is its whole schema.

Unknown keys stop the start and name the nearest valid one. Secrets are named by file path only. What differs per
container comes from the environment (`Environment`). Lengths of time are in seconds, sizes in bytes.
"""

import difflib
import os
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from libs.runtime.errors import Misconfigured
from libs.runtime.site.ce import Agent, Batch, Ce, Limits
from libs.runtime.site.central_services import CentralServices
from libs.runtime.site.credentials import Credentials
from libs.runtime.site.identity import Identity
from libs.runtime.site.kinds import ShortName, Table
from libs.runtime.site.machine import Machine
from libs.runtime.site.monitoring import Edge, Monitoring
from libs.runtime.site.plumbing import Bus, Telemetry

__all__ = [
    "Agent",
    "Batch",
    "Bus",
    "Ce",
    "CentralServices",
    "Credentials",
    "Edge",
    "Environment",
    "Identity",
    "Limits",
    "Machine",
    "Monitoring",
    "Site",
    "Telemetry",
    "environment",
    "load",
]


class Site(Table, frozen=True, kw_only=True):
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
    """What differs per container, each NACRE_<NAME>. The files: who we are to NATS, and the CA of its certificate."""

    config: str = ""
    nats_url: str = ""
    nats_nkey_file: str = ""
    nats_ca_file: str = ""
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
    for name, machine in site.machine.items():
        if machine.flavour != "local" and None in (machine.client_id_file, machine.client_key_file):
            raise Misconfigured(
                f"site file {path}: machine.{name} needs client_id_file and client_key_file; "
                "only flavour 'local' goes without an API client"
            )
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
    _refuse_sourceless(site, path)


def _refuse_sourceless(site: Site, path: str | Path) -> None:
    credentials = site.credentials
    host = credentials.host_certificate
    if host.source != "acme" and credentials.host_certificate_directory is None:
        raise Misconfigured(
            f"site file {path}: credentials.host_certificate.source is {host.source!r}: set "
            "credentials.host_certificate_directory"
        )
    if host.source == "acme" and (host.acme is None or not host.names):
        raise Misconfigured(
            f"site file {path}: credentials.host_certificate.source is 'acme': set names and the table acme there"
        )
    if host.source == "manual" and not (host.dn or host.names):
        raise Misconfigured(
            f"site file {path}: credentials.host_certificate.source is 'manual': set dn or names there, for the request"
        )
    if host.acme is not None and bool(host.acme.eab_key_id) != (host.acme.eab_key_file is not None):
        raise Misconfigured(
            f"site file {path}: eab_key_id and eab_key_file of credentials.host_certificate.acme belong together"
        )
    if credentials.token_machine is not None and credentials.token_machine not in site.machine:
        hint = _nearest(credentials.token_machine, site.machine)
        raise Misconfigured(
            f"site file {path}: credentials.token_machine is {credentials.token_machine!r}, which has no table{hint}"
        )


def _nearest(word: str, valid: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; valid are {', '.join(sorted(valid))}"


def _refuse_unknown(raw: Any, expected: Any, where: str) -> None:
    """Walk the file beside its schema, so that a misspelt key is named with the nearest valid one."""
    if typing.get_origin(expected) is types.UnionType:
        expected = typing.get_args(expected)[0]
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct) and isinstance(raw, dict):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(expected)}
        for key, inner in raw.items():
            if key not in fields:
                raise Misconfigured(f"{where}{key}: no such setting{_nearest(key, fields)}")
            _refuse_unknown(inner, fields[key], f"{where}{key}{'' if where.endswith('_') else '.'}")
    elif typing.get_origin(expected) is dict and isinstance(raw, dict):
        for key, inner in raw.items():
            _refuse_unknown(inner, typing.get_args(expected)[1], f"{where}{key}.")
