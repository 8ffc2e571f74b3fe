"""A word with a facility's API, as a process: try its client, or put a file onto its machine (process.py)."""

import asyncio
import contextlib
import secrets
from pathlib import PurePosixPath

from libs.runtime.errors import NacreError
from libs.slurm import account, endpoint, superfacility
from libs.slurm.superfacility import SuperfacilityClient
from libs.slurm.tried_client import TriedClient
from services.cert_renewer.apart.process import carry_out
from services.cert_renewer.apart.work import Put, Trial

# Makes it private before it has any content, and sweeps what was never renamed; then, once it is whole, in its place.
_PREPARE = 'umask 077 && : > "$1" && find "$2" -maxdepth 1 -name "$3" -mmin +60 -delete'
_PUT_IN_PLACE = 'chmod 600 "$1" && sync "$1" && mv -f "$1" "$2"'


def do(work: Trial | Put) -> TriedClient | None:
    """Do it; errors are those of libs/slurm."""
    return asyncio.run(_tried(work) if isinstance(work, Trial) else _put(work))


async def _tried(work: Trial) -> TriedClient:
    return await account.tried(endpoint.unchecked(work.site, work.machine, work.share))


async def _put(work: Put) -> None:
    """Two commands, with the upload between them; what was half done is taken away."""
    path = PurePosixPath(work.path)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    async with superfacility.connected(endpoint.unchecked(work.site, work.machine, work.share)) as client:
        await _shell(client, _PREPARE, str(fresh), str(path.parent), f".{path.name}.*.new")
        try:
            await client.files.upload(str(fresh), work.content)
            await _shell(client, _PUT_IN_PLACE, str(fresh), str(path))
        except NacreError:
            with contextlib.suppress(NacreError):
                await client.commands.repeatable(["rm", "-f", str(fresh)])
            raise


async def _shell(client: SuperfacilityClient, script: str, *arguments: str) -> None:
    await client.commands.repeatable(["sh", "-c", script, "sh", *arguments])


if __name__ == "__main__":
    carry_out(Trial | Put, do)  # type: ignore[arg-type]
