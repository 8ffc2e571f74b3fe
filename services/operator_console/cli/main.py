"""The `nacre` command.

Exit codes: 0 done, 64 wrong command line, 69 not reachable, 77 refused, 78 configuration.
"""

import asyncio
import sys
from importlib.metadata import version

import click

from libs.runtime.errors import NacreError
from libs.runtime.run import EXIT_USAGE, exit_code
from services.operator_console.cli.bus import bus
from services.operator_console.cli.trace import trace


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=(__doc__ or "").split("\n\n")[1])
@click.version_option(version("nacre"), prog_name="nacre")
def nacre() -> None:
    """Operate Nacre, the ALICE Computing Element for supercomputers behind a web API."""


nacre.add_command(bus)
nacre.add_command(trace)


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
