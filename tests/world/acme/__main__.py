"""A real ACME server (pebble) with external account binding and 47-day certificates, behind a front that can err.

    python -m tests.world.acme --state DIR --http01-port PORT

http-01 is asked for at PORT of the name that is to be certified (`localhost` always works). Ready line:
{"directory_url", "ca", "anchors", "eab_key_id", "eab_key_file", "admin_url"}; `ca` is the trust anchor for the server's
own HTTPS, `anchors` those of what it issues.
Admin paths (front.py): POST /_faults, DELETE /_faults, POST /_issue, GET /_log.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.world.acme.authority import SERVER, Authority, Order, name_of, pem, served
from tests.world.acme.front import Front

PROGRAM = "pebble"
READY_S = 15.0
EAB_KEY_ID = "nacre-test"


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.world.acme", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--http01-port", type=int, required=True, help="where the names answer http-01")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    authority = Authority(dt.datetime.now(dt.UTC))
    with _pebble(options.state, options.http01_port, authority) as (url, root):
        asyncio.run(_serve(options.state, authority, url, root))


async def _serve(state: Path, authority: Authority, url: str, root: bytes) -> None:
    (state / "anchors.pem").write_bytes(root + authority.root_pem)
    front = Front(url, str(state / "server_ca.pem"), authority)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            front.app,
            ssl_certfile=state / "server.pem",
            ssl_keyfile=state / "server.key",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    base = f"https://localhost:{port}"
    ready = {
        "directory_url": f"{base}/dir",
        "ca": str(state / "server_ca.pem"),
        "anchors": str(state / "anchors.pem"),
        "eab_key_id": EAB_KEY_ID,
        "eab_key_file": str(state / "eab.key"),
        "admin_url": base,
    }
    print(json.dumps(ready), flush=True)
    await task
    await front.close()


@contextlib.contextmanager
def _pebble(state: Path, http01_port: int, authority: Authority) -> Iterator[tuple[str, bytes]]:
    """The real server on a port of its own: its URL, and the root of what it issues."""
    program = shutil.which(PROGRAM)
    if program is None:
        sys.exit(f"{PROGRAM} is not installed (tests/install_acme.sh)")
    _write_server_identity(state, authority)
    port, management = _free_port(), _free_port()
    hmac_key = base64.urlsafe_b64encode(secrets.token_bytes(48)).decode().rstrip("=")
    _write_private(state / "eab.key", hmac_key.encode())
    configuration = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(state / "server.pem"),
        "privateKey": str(state / "server.key"),
        "httpPort": http01_port,
        "tlsPort": 1,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": True,
        "externalAccountMACKeys": {EAB_KEY_ID: hmac_key},
        "certificateValidityPeriod": 47 * 86_400,
    }
    (state / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    process = subprocess.Popen(
        [program, "-config", state / "pebble.json"], env=os.environ | quick, stdout=sys.stderr, stderr=sys.stderr
    )
    try:
        root = _fetched(f"https://127.0.0.1:{management}/roots/0", state / "server_ca.pem")
        yield f"https://127.0.0.1:{port}", root
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _write_server_identity(state: Path, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    order = Order(
        key.public_key(), name_of("localhost"), now - dt.timedelta(hours=1), now + dt.timedelta(days=30),
        authority.intermediate, ("localhost",), (SERVER,),
    )  # fmt: skip
    (state / "server.pem").write_bytes(served(order, "127.0.0.1"))
    (state / "server_ca.pem").write_bytes(pem([authority.root.certificate]))
    _write_private(state / "server.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _fetched(url: str, ca: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(ca))
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                content: bytes = answer.read()
                return content
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
