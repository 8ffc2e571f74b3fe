"""Install Debian packages, where that is possible at all."""

import os
import shutil
import subprocess
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")


class Impossible(Exception):
    """No container engine can be had here; the text says why."""


def install(*packages: str) -> None:
    """Install packages without letting them start services; raises Impossible."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Impossible(f"{' '.join(packages)}: only root on Debian can install what is missing")
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "-o", "DPkg::Lock::Timeout=300", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise Impossible(f"apt-get {command[0]} failed: {done.stderr.strip()[-500:]}")
    finally:
        if ours:
            POLICY.unlink()
