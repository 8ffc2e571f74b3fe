"""Kills an installer at random instants, and looks each time whether a whole pair is in effect.

    python -m tests.integration.cert_renewer.install_kills --kills 1000 --seed 1

A forked child installs one pair after the other as fast as it can; it is killed (SIGKILL) at a random instant. Prints
one JSON object; the exit code is 0 only when key and certificate matched after every kill.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from libs.runtime import versions
from tests.world.acme.authority import Authority, name_of

NAMES = ("hostcert.pem", "hostkey.pem")
LONGEST_S = 0.02
Files = dict[str, versions.File]


def made_pairs(count: int) -> list[Files]:
    """Pairs to install, each with a key of its own."""
    now = datetime.now(UTC)
    authority = Authority(now)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(count)]
    return [
        {
            NAMES[0]: versions.File(authority.issue(key.public_key(), name_of("host"), now), 0o444),
            NAMES[1]: versions.File(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o400),
        }
        for key in keys
    ]


def is_whole(directory: Path) -> bool:
    """True when what is in effect is a certificate with its own key."""
    current = directory / versions.CURRENT
    certificate = x509.load_pem_x509_certificates((current / NAMES[0]).read_bytes())[0]
    key = load_pem_private_key((current / NAMES[1]).read_bytes(), None)
    return certificate.public_key() == key.public_key()


def kill_once(directory: Path, pairs: Sequence[Files], after_s: float) -> None:
    """Install in a child, and kill it after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                for pair in pairs:
                    versions.install(directory, pair, datetime.now(UTC))
        finally:
            os._exit(1)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the installer ended by itself")


def run(kills: int, seed: int, directory: Path) -> dict[str, Any]:
    """Kill so many times; what was found."""
    instants = random.Random(seed)
    pairs = made_pairs(4)
    versions.install(directory, pairs[0], datetime.now(UTC))
    began_s = time.monotonic()
    broken, changed, half_made = 0, 0, 0
    for _ in range(kills):
        before = versions.in_effect(directory)
        kill_once(directory, pairs, instants.uniform(0, LONGEST_S))
        broken += not is_whole(directory)
        changed += versions.in_effect(directory) != before
        half_made += sum(len(list(one.iterdir())) < len(NAMES) for one in directory.iterdir() if one.is_dir())
        versions.install(directory, pairs[0], datetime.now(UTC) + timedelta(hours=2))
    return {
        "kills": kills,
        "seed": seed,
        "broken": broken,
        "changed": changed,
        "half_made": half_made,
        "left": sorted(one.name for one in directory.iterdir() if one.name != versions.CURRENT),
        "duration_s": round(time.monotonic() - began_s, 1),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.cert_renewer.install_kills", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--directory", type=Path, help="where to install, e.g. on the volume to be tried (default: /tmp)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        found = run(options.kills, options.seed, Path(folder) / "pairs")
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
