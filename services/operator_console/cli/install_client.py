"""`nacre credentials install-client`: check a new Superfacility client, try it, and swap it in, in one step."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from libs.runtime import clock, secret_file, site, versions
from libs.runtime.errors import Misconfigured, Refused

if TYPE_CHECKING:
    from libs.slurm.access import ApiClientKey
    from libs.slurm.account import TriedClient

FILE_MODE = 0o400
WHOLE_RATE = 1.0


@click.command("install-client")
@click.argument("machine")
@click.option("--client-id-file", type=click.Path(path_type=Path), required=True, help="holds the new client's id")
@click.option("--key-file", type=click.Path(path_type=Path), required=True, help="its private key, PEM or JWK")
@click.option("--config", type=click.Path(path_type=Path), help="site file (default: NACRE_CONFIG)")
@click.option("--dry-run", is_flag=True, help="check and try it, but install nothing")
def install_client(machine: str, client_id_file: Path, key_file: Path, config: Path | None, dry_run: bool) -> None:
    """Install a new Superfacility client for MACHINE, made in Iris; the services take it up within seconds.

    It must buy an access token from here before it is installed; the one that serves now stays until then, and is kept
    as the previous version.
    """
    # The API's client is loaded only here: other commands do without it.
    from libs.slurm import account, endpoint
    from libs.slurm.access import ApiClientKey

    path = config or site.environment().config
    if not path:
        raise Misconfigured("no site file: give --config FILE or set NACRE_CONFIG")
    loaded = site.load(path)
    if machine not in loaded.machine:
        raise Misconfigured(f"site file {path}: there is no machine {machine!r}, but {', '.join(loaded.machine)}")
    found = endpoint.unchecked(loaded, machine, WHOLE_RATE)
    secret_file.read_secret(key_file, "client key", private=True)
    offered = ApiClientKey(client_id_file=client_id_file, client_key_file=key_file)
    before = offered.stamp()
    tried = asyncio.run(account.tried(msgspec.structs.replace(found, key=offered)))
    click.echo(f"{machine}: the new client bought an access token; {_end(tried)}")
    if dry_run:
        return
    directory = _directory(machine, found.key, offered)
    contents = secret_file.read_together([client_id_file, key_file], ["client id", "client key"])
    if offered.stamp() != before:
        raise Refused(f"{client_id_file} or {key_file} changed while it was tried; try again")
    names = (found.key.client_id_file.name, found.key.client_key_file.name)
    files = {name: versions.File(content, FILE_MODE) for name, content in zip(names, contents, strict=True)}
    version = versions.install(directory, files, clock.now())
    click.echo(f"installed as {version}; the services take it up within seconds (see `nacre credentials`)")


def _directory(machine: str, used: "ApiClientKey", offered: "ApiClientKey") -> Path:
    """Where clients are installed. Misconfigured when this site keeps its client otherwise; how to replace that."""
    try:
        directory = versions.directory_of(used.client_id_file, f"machine.{machine}.client_id_file")
        if versions.directory_of(used.client_key_file, f"machine.{machine}.client_key_file") == directory:
            return directory
    except Misconfigured as error:
        raise Misconfigured(
            f"{error}. Is it a Kubernetes secret? Then: kubectl create secret generic superfacility "
            f"--from-file={used.client_id_file.name}={offered.client_id_file} "
            f"--from-file={used.client_key_file.name}={offered.client_key_file} "
            "--dry-run=client -o yaml | kubectl apply -f -"
        ) from None
    raise Misconfigured(f"machine.{machine}: client_id_file and client_key_file are not in the same directory")


def _end(tried: "TriedClient") -> str:
    if tried.ends_at is None:
        return f"its end is not known: {tried.unknown_because}"
    left_h = (tried.ends_at - clock.now()).total_seconds() / 3600
    return f"it ends {tried.ends_at:%Y-%m-%d %H:%M} UTC, in {left_h:.0f} h: make the next one before that"
