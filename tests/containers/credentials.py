"""Hand out what the world's programs made: the site's credentials, and what job agents need on the shared file system.

    python -m tests.containers.credentials --world DIR --secrets DIR --shared DIR

Runs once, when central services and the facility are up. A real site gets these files from its certificate authority
and from the facility's web pages.
"""

import argparse
import json
import os
import shutil
from pathlib import Path


def main() -> None:
    """Copy them; files of keys are for their owner only."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers.credentials")
    parser.add_argument("--world", type=Path, required=True, help="holds the states `central` and `facility`")
    parser.add_argument("--secrets", type=Path, required=True, help="what the services read")
    parser.add_argument("--shared", type=Path, required=True, help="the worker nodes' file system")
    options = parser.parse_args()
    os.umask(0o077)
    pki, facility = options.world / "central" / "pki", options.world / "facility"
    certificates = options.secrets / "hostcert"
    certificates.mkdir(exist_ok=True)
    shutil.copyfile(pki / "vobox.pem", certificates / "hostcert.pem")
    shutil.copyfile(pki / "vobox.key", certificates / "hostkey.pem")
    shutil.copyfile(pki / "ca.pem", options.secrets / "ca.pem")
    shutil.copyfile(facility / "client.pem", options.secrets / "client.pem")
    clients = json.loads((facility / "clients.json").read_text())
    first = next(client for client in clients if client["key_file"] == "client.pem")
    (options.secrets / "client_id").write_text(first["client_id"])
    shutil.copyfile(pki / "ca.pem", options.shared / "ca.pem")
    (options.shared / "scratch").mkdir(exist_ok=True)


if __name__ == "__main__":
    main()
