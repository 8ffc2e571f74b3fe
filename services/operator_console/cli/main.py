"""The `nacre` command.

Exit codes: 0 done, 64 wrong command line, 69 not reachable, 77 refused, 78 configuration.
"""

import asyncio
import importlib
import sys
from importlib.metadata import version

import click

from libs.runtime.errors import NacreError
from libs.runtime.exit_codes import EXIT_USAGE, exit_code

# Loaded when called: a glance at the house should not wait for what writes certificates.
COMMANDS = {
    "agents": "services.operator_console.cli.agents:agents",
    "bus": "services.operator_console.cli.bus:bus",
    "context": "services.operator_console.cli.context:context",
    "credentials": "services.operator_console.cli.credentials:credentials",
    "events": "services.operator_console.cli.events:events",
    "explain": "services.operator_console.cli.explain:explain",
    "history": "services.operator_console.cli.history:history",
    "nodes": "services.operator_console.cli.nodes:nodes",
    "status": "services.operator_console.cli.status:status",
    "submissions": "services.operator_console.cli.submissions:submissions",
    "trace": "services.operator_console.cli.trace:trace",
    "watch": "services.operator_console.cli.status:watch",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(__doc__ or "").split("\n\n")[1],
)
@click.version_option(version("nacre"), prog_name="nacre")
def nacre() -> None:
    """Operate Nacre, the ALICE Computing Element for supercomputers behind a web API."""


def main() -> None:
    """Entry point of the console script."""
    try:
        nacre(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (click.Abort, asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(130)
    except NacreError as error:
        click.echo(f"nacre: {error}", err=True)
        sys.exit(exit_code(error))
