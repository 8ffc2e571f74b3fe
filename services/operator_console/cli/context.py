"""`nacre context`: a context for the genuine NATS CLI, so that `nats --context nacre ...` shows the bus."""

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from libs.runtime import site
from libs.runtime.errors import Misconfigured


@click.command()
@click.option("--url", help="NATS URL (default: NACRE_NATS_URL, else nats://127.0.0.1:4222)")
@click.option("--name", default="nacre", show_default=True, help="the context's name")
def context(url: str | None, name: str) -> None:
    """Write a context for the NATS CLI, with the key and CA that NACRE_NATS_NKEY_FILE and NACRE_NATS_CA_FILE name.

    Then: nats --context nacre sub 'nacre.v1.>', nats stream ls, nats kv watch job_agents, nats micro ls.
    """
    environment = site.environment()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "nats" / "context" / f"{name}.json"
    content: dict[str, Any] = {
        "description": "Nacre's bus",
        "url": url or environment.nats_url or site.Bus().url,
        "nkey": str(Path(environment.nats_nkey_file).resolve()) if environment.nats_nkey_file else "",
        "ca": str(Path(environment.nats_ca_file).resolve()) if environment.nats_ca_file else "",
    }
    if environment.nats_nkey_file:
        content["inbox_prefix"] = f"_INBOX_{Path(environment.nats_nkey_file).stem}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}; set HOME or XDG_CONFIG_HOME") from error
    click.echo(f"{path}: now try `nats --context {name} stream ls`")
