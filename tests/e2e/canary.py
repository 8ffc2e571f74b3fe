"""Searches everything that a house leaves behind for what must stay secret: keys, tokens, signed assertions, bearers.

Known secrets are looked for by their own text, also those that were replaced meanwhile; and whatever looks like a
private key, a JSON web token or a bearer of the edge relays is found without being known. Looked at are all files of
the house (logs, NATS' store with every message, scripts and output of batch jobs, states of the world), metrics and
readiness of each service, and the command line of every process. Where secrets belong is left out, by name.
"""

import contextlib
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

# Where secrets belong, below the house's folder.
BELONGS = (
    "token.sh", "*.bearer", "hostcert/hostkey.pem", "secrets/*", ".config/*", "world/central/pki/*.key",
    "world/facility/*.pem", "world/facility/tokens.key", "*/munge.key", "*/jwt*.key",
)  # fmt: skip
PATTERNS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----\s*(\\n)?\s*[A-Za-z0-9+/]{16}"),
    "a JSON web token": re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "an edge relay's bearer": re.compile(rb"v1\.[a-z0-9-]{1,31}\.[0-9]{9,12}\.[0-9a-f]{64}"),
}
PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
SHORTEST_LINE = 40
LOOK_EVERY_S = 0.3


@dataclass
class Canary:
    """The secrets of a house as they come and go; `searched` counts files, `bytes_searched` their content."""

    folder: Path
    lines: dict[bytes, str] = field(default_factory=dict)
    searched: int = 0
    bytes_searched: int = 0

    @property
    def searched_mb(self) -> float:
        """Megabytes (10^6 bytes) of all that was looked at."""
        return round(self.bytes_searched / 1e6, 1)

    def note(self) -> None:
        """Remember what is secret now: three lines of each key."""
        for path in self._secrets():
            with contextlib.suppress(OSError):
                for body in PEM.findall(path.read_bytes()):
                    whole = [line for line in body.split() if len(line) >= SHORTEST_LINE]
                    for line in {*whole[:1], *whole[len(whole) // 2 :][:1], *whole[-2:-1]}:
                        self.lines[line] = str(path.relative_to(self.folder))

    def _secrets(self) -> list[Path]:
        return [path for pattern in BELONGS for path in self.folder.glob(pattern) if path.is_file()] + [
            path for path in (self.folder / ".config").rglob("*.pem") if path.is_file()
        ]

    def leaks(self, texts: Mapping[str, bytes] | None = None, files: tuple[Path, ...] = ()) -> list[str]:
        """Where a secret was found, and which, in the house's folder, in further files, and in these texts."""
        self.note()
        found = []
        for name, text in {**(texts or {}), **command_lines()}.items():
            found += self._in(name, text)
        for path in [*sorted(self.folder.rglob("*")), *files]:
            name = str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)
            if path.is_file() and not path.is_symlink() and not any(fnmatch(name, belongs) for belongs in BELONGS):
                with contextlib.suppress(OSError):
                    found += self._in(name, path.read_bytes())
        return found

    def _in(self, name: str, content: bytes) -> list[str]:
        self.searched += 1
        self.bytes_searched += len(content)
        known = {f"the key of {source}" for line, source in self.lines.items() if line in content}
        seen = {what for what, pattern in PATTERNS.items() if pattern.search(content)}
        return [f"{name}: {what}" for what in sorted(known | seen)]


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Canary]:
    """Note the secrets of a house while it lives: the token is another one every few seconds."""
    canary = Canary(folder)
    canary.note()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            canary.note()

    watcher = threading.Thread(target=watch, name="canary")
    watcher.start()
    try:
        yield canary
    finally:
        over.set()
        watcher.join()


def told(ports: Mapping[str, int]) -> dict[str, bytes]:
    """What the services say on their HTTP ports."""
    found = {}
    for service, port in ports.items():
        for path in ("metrics", "readyz"):
            with contextlib.suppress(OSError):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                        found[f"{service}/{path}"] = answer.read()
                except urllib.error.HTTPError as error:
                    with error:
                        found[f"{service}/{path}"] = error.read()
    return found


def command_lines() -> dict[str, bytes]:
    """The command line of every process of this machine that we may see."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[str(path)] = path.read_bytes()
    return found
