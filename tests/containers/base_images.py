"""The images that our Dockerfiles start from: pulled, or made from Debian's packages where no registry is reached.

What is made here stands in for the real image under the same tag: it has the programs that our Dockerfiles use, and the
machine's own certificate authorities, so it must never be pushed anywhere. An image that is there is kept.
"""

import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.containers import debian
from tests.containers.debian import Impossible
from tests.world.processes import REPOSITORY

DEBIAN, PYTHON, NATS = "debian:12-slim", "python:3.11-slim-bookworm", "nats:2-alpine"
DOCKERFILES = ("deploy/Dockerfile", "deploy/nats/Dockerfile", "tests/containers/Dockerfile")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PULL_S = 120.0
PATH_LINE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# pip brings authorities of its own unless told otherwise.
TRUST = f"SSL_CERT_FILE={AUTHORITIES} PIP_CERT={AUTHORITIES}"

_PYTHON_DOCKERFILE = f"""\
FROM {DEBIAN}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null \\
 && rm -rf /var/lib/apt/lists/* \\
 && for name in python python3 python3.11; do ln -s /usr/bin/python3.11 /usr/local/bin/$name; done
CMD ["python3"]
"""

_NATS_ENTRYPOINT = """\
#!/bin/sh
case "$1" in -*) set -- nats-server "$@" ;; esac
exec "$@"
"""


def make() -> None:
    """Make sure of every image that our Dockerfiles name; raises Impossible."""
    makers: dict[str, Callable[[Path], None]] = {DEBIAN: _make_debian, PYTHON: _make_python, NATS: _make_nats}
    missing = [tag for tag in makers if tag in named() and not _docker("image", "inspect", tag)]
    if unknown := named() - set(makers):
        raise Impossible(f"no way is known to make {', '.join(sorted(unknown))}")
    if not missing or all(_pulled(tag) for tag in missing):
        return
    with tempfile.TemporaryDirectory(prefix="nacre-base-") as folder:
        for tag, maker in makers.items():
            # Python's stand-in is built on Debian's, also where only Python's is named.
            if not _docker("image", "inspect", tag):
                started_s = time.monotonic()
                maker(Path(folder))
                print(f"made {tag} in {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)  # noqa: T201


def named() -> set[str]:
    """The tags in the FROM lines of our Dockerfiles, those of their own stages left out."""
    found: set[str] = set()
    for name in DOCKERFILES:
        text = (REPOSITORY / name).read_text()
        stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
        found |= set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    return found


def _make_debian(folder: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        debian.install("mmdebstrap")
    archive = folder / "debian.tar"
    unwanted = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")]
    _run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *unwanted,
        '--aptopt=Acquire::Languages "none"', "--include=ca-certificates,tzdata",
        f'--customize-hook=install -D -m 644 {AUTHORITIES} "$1{AUTHORITIES}"',
        '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*',
        "bookworm", str(archive), mirror(),
    )  # fmt: skip
    with archive.open("rb") as content:
        _import(content, DEBIAN, f"ENV {PATH_LINE} {TRUST}", 'CMD ["bash"]')
    archive.unlink()


def _make_python(_folder: Path) -> None:
    _run("docker", "build", "-q", "-t", PYTHON, "-", stdin=_PYTHON_DOCKERFILE.encode())


def _make_nats(folder: Path) -> None:
    server = shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")
    # busybox gives the sh and wget of the real, Alpine image.
    _run("apt-get", "download", "-qq", "busybox-static", cwd=folder)
    _run("dpkg-deb", "-x", str(next(folder.glob("busybox-static_*.deb"))), str(folder / "busybox"))
    busybox = folder / "busybox" / "bin" / "busybox"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, mode in (("tmp", 0o1777), ("bin", 0o755), ("usr/local/bin", 0o755), ("etc", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add(tar, "usr/local/bin/nats-server", Path(server).resolve().read_bytes())
        _add(tar, "usr/local/bin/docker-entrypoint.sh", _NATS_ENTRYPOINT.encode())
        _add(tar, "bin/busybox", busybox.read_bytes())
        for name in _run(str(busybox), "--list").split():
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    archive.seek(0)
    _import(archive, NATS, f"ENV {PATH_LINE}", 'ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["nats-server"]')


def mirror() -> str:
    """The Debian mirror that this machine uses itself."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        if file.is_file() and (
            found := re.search(r"^(?:deb (?:\[[^]]*\] )?|URIs: *)(\S+)", file.read_text(), re.MULTILINE)
        ):
            return found[1]
    return "http://deb.debian.org/debian"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def _import(content: io.BufferedIOBase, tag: str, *changes: str) -> None:
    options = [word for change in changes for word in ("--change", change)]
    process = subprocess.Popen(
        ["docker", "import", *options, "-", tag], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    with process.stdin:
        shutil.copyfileobj(content, process.stdin, 1 << 20)
    if process.wait() != 0:
        raise Impossible(f"docker import of {tag} failed")


def _pulled(tag: str) -> bool:
    return _docker("pull", "-q", tag)


def _docker(*arguments: str) -> bool:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, timeout=PULL_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _run(*command: str, cwd: Path | None = None, stdin: bytes | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        end = done.stderr.decode(errors="replace").strip()[-500:]
        raise Impossible(f"{command[0]} {command[1] if len(command) > 1 else ''} failed: {end}")
    return done.stdout.decode()
