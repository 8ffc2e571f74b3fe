"""A job agent in development: gets grid jobs from the world's central services, runs them (sleeps), reports, ends.

One file, standard library only: it runs by path inside a batch job and starts fast. From the environment: NACRE_AGENT
(agent key), CE (full or short name), JALIEN_TOKEN_CERT and JALIEN_TOKEN_KEY (PEM text, or paths), APMON_CONFIG
(`host[:port][ password]`, comma-separated; unset: nothing is sent), TTL (seconds it may live; default 86400).

Exit codes: 0 nothing more to do, 1 central services stayed away for longer than --patience-s, 2 wrong environment or
options, 3 refused by central services, 143 ended by SIGTERM.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

_ANSWER_MAX_BYTES = 65536
_HTTP_S = 10.0
_REPORT_LAST_S = 2.0
_PAUSE_MAX_S = 2.0
_APMON_PORT = 8884
_INT32_MAX = (1 << 31) - 1
_REAL64, _INT32, _STRING = 5, 2, 0

_SIGTERM_EXIT = 143
_MONITOR_CLUSTER = "ALIEN_alien.site.JobAgent_Nodes"
_STATES = {"STARTING_JA": 0, "REQUESTING_JOB": 1, "JOB_STARTED": 3, "RUNNING_JOB": 4, "DONE": 5, "FINISHING_JA": 6}
# AliEn's levels of a grid job.
_JOB_STARTED, _JOB_RUNNING, _JOB_DONE = 7, 10, 15


class Failure(Exception):
    """The agent cannot go on; ends it with `exit_code`."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Stopped(Exception):
    """SIGTERM arrived."""


def encode_datagram(
    *, password: str, instance: int, sequence: int, cluster: str, node: str, parameters: dict[str, str | int | float]
) -> bytes:
    """One ApMon datagram: XDR, big-endian, each item padded to four bytes."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack(">i", len(data)) + data + b"\0" * (-len(data) % 4)

    out = [text(f"v:2.2.9_jp:{password}"), struct.pack(">ii", instance, sequence), text(cluster), text(node)]
    out.append(struct.pack(">i", len(parameters)))
    for name, value in parameters.items():
        out.append(text(name))
        if isinstance(value, str):
            out.append(struct.pack(">i", _STRING) + text(value))
        elif isinstance(value, int) and abs(value) <= _INT32_MAX:
            out.append(struct.pack(">ii", _INT32, value))
        else:
            out.append(struct.pack(">id", _REAL64, value))
    return b"".join(out)


class Destination:
    """Where datagrams go, from `host[:port][ password]`; each destination counts its own sequence numbers."""

    def __init__(self, item: str) -> None:
        place, _, password = item.partition(" ")
        host, _, port = place.partition(":")
        if not host or (port and not port.isdecimal()):
            raise Failure(f"APMON_CONFIG: {place!r} is not host[:port]", 2)
        self.address = (host, int(port or _APMON_PORT))
        self.password = password.strip()
        self.sequence = 0


class Monitor:
    """Sends ApMon datagrams to each destination; `sent` counts those the kernel took."""

    def __init__(self, config: str) -> None:
        self.sent = 0
        self._instance = random.getrandbits(31)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        items = [item.strip() for item in config.split(",")]
        self._destinations = [Destination(item) for item in items if item and not item.startswith("http")]

    def send(self, cluster: str, node: str, parameters: dict[str, str | int | float]) -> None:
        for destination in self._destinations:
            destination.sequence += 1
            data = encode_datagram(
                password=destination.password,
                instance=self._instance,
                sequence=destination.sequence,
                cluster=cluster,
                node=node,
                parameters=parameters,
            )
            try:
                self._socket.sendto(data, destination.address)
                self.sent += 1
            except OSError as error:
                _say(f"a datagram could not be sent: {error}")

    def close(self) -> None:
        self._socket.close()


class Central:
    """The agent port of central services. Connection errors are retried for `patience_s`, then they are a Failure."""

    def __init__(self, url: str, context: ssl.SSLContext, *, patience_s: float, stop: threading.Event) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Failure(f"--central: {url!r} is not an https URL", 2)
        self._host, self._port = parts.hostname, parts.port or 443
        self._prefix = parts.path.rstrip("/")
        self._context = context
        self._patience_s = patience_s
        self._stop = stop

    def post(self, path: str, body: dict[str, object]) -> dict[str, object] | None:
        """The JSON answer, None for 204. Raises Failure, or Stopped on SIGTERM."""
        end = time.monotonic() + self._patience_s
        pause_s = 0.1
        while True:
            try:
                return self.post_once(path, body, timeout_s=_HTTP_S)
            except ssl.SSLCertVerificationError as error:
                raise Failure(
                    f"central services show a certificate that --ca does not cover: {error.reason}", 3
                ) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
                    raise Failure(f"central services do not accept the token: {error.reason}", 3) from error
                if time.monotonic() + pause_s > end:
                    raise Failure(f"central services do not answer {path}: {error}", 1) from error
            if self._stop.wait(pause_s):
                raise Stopped
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def post_once(self, path: str, body: dict[str, object], *, timeout_s: float) -> dict[str, object] | None:
        """One attempt. Raises OSError, HTTPException or ValueError when it may be repeated, Failure when not."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", self._prefix + path, json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read(_ANSWER_MAX_BYTES)
        if answer.status == 204:
            return None
        if 400 <= answer.status < 500:
            raise Failure(f"central services refuse {path}: {answer.status} {data[:200].decode(errors='replace')}", 3)
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("an answer that is no JSON object")
        return found


class Agent:
    """The life of one job agent."""

    def __init__(self, options: argparse.Namespace, environment: dict[str, str], stop: threading.Event) -> None:
        self._stop = stop
        self._options = options
        self._key = _needed(environment, "NACRE_AGENT")
        self._ce = _needed(environment, "CE")
        ttl_s = environment.get("TTL", "86400")
        if not ttl_s.isdecimal():
            raise Failure("TTL is not a number of seconds", 2)
        self._ends_at_s = time.monotonic() + int(ttl_s)
        # Many nodes of a Slurm in development are one machine: an agent's host is the node that Slurm calls it.
        host = environment.get("SLURMD_NODENAME") or socket.gethostname()
        # A requeued batch job has the same agent key; the run tells its processes apart.
        self._run_id = f"{host}:{os.getpid()}:{time.time_ns()}"
        self._node = f"{host}:{os.getpid()}"
        self._jobs = 0
        self._monitor = Monitor(environment.get("APMON_CONFIG", ""))
        context = _tls(options.ca, _needed(environment, "JALIEN_TOKEN_CERT"), _needed(environment, "JALIEN_TOKEN_KEY"))
        self._central = Central(options.central, context, patience_s=options.patience_s, stop=stop)

    def live(self) -> None:
        """Until there is nothing more to do. Raises Failure, Stopped."""
        try:
            self._report_state("STARTING_JA")
            self._work()
            self._report_state("FINISHING_JA")
        finally:
            self._last_report()
            self._monitor.close()

    def _work(self) -> None:
        fruitless = 0
        while fruitless < self._options.max_retries and time.monotonic() < self._ends_at_s:
            self._report_state("REQUESTING_JOB")
            job = self._central.post("/match", {**self._who(), "ce": self._ce})
            if job is not None:
                fruitless = 0
                self._run(int(str(job["grid_job_id"])), float(str(job["run_s"])))
                continue
            fruitless += 1
            if fruitless < self._options.max_retries:
                self._wait(self._options.retry_pause_s)

    def _run(self, grid_job_id: int, run_s: float) -> None:
        self._jobs += 1
        self._report_state("JOB_STARTED", {"job_id": grid_job_id})
        self._report_job(grid_job_id, _JOB_STARTED)
        end = time.monotonic() + run_s
        self._report_state("RUNNING_JOB")
        self._report_job(grid_job_id, _JOB_RUNNING)
        while (left_s := end - time.monotonic()) > 0:
            self._wait(min(left_s, self._options.report_every_s))
            if time.monotonic() < end:
                self._report_state("RUNNING_JOB")
                self._report_job(grid_job_id, _JOB_RUNNING)
        self._central.post("/done", {**self._who(), "grid_job_id": grid_job_id})
        self._report_job(grid_job_id, _JOB_DONE)
        self._report_state("DONE")

    def _who(self) -> dict[str, object]:
        return {"agent": self._key, "run": self._run_id}

    def _wait(self, duration_s: float) -> None:
        if self._stop.wait(duration_s):
            raise Stopped

    def _report_state(self, state: str, more: dict[str, str | int | float] | None = None) -> None:
        parameters: dict[str, str | int | float] = {
            "TTL_left": max(0, int(self._ends_at_s - time.monotonic())),
            "ja_status_string": state,
            "ja_status": _STATES[state],
        }
        self._monitor.send(_MONITOR_CLUSTER, f"{self._node}:{self._jobs}", parameters | (more or {}))

    def _report_job(self, grid_job_id: int, status: int) -> None:
        self._monitor.send(f"{self._ce}_Jobs", str(grid_job_id), {"status": status})

    def _last_report(self) -> None:
        body = {**self._who(), "datagrams_sent": self._monitor.sent}
        try:
            if self._stop.is_set():
                self._central.post_once("/agents/report", body, timeout_s=_REPORT_LAST_S)
            else:
                self._central.post("/agents/report", body)
        except (OSError, http.client.HTTPException, ValueError, Failure, Stopped) as error:
            _say(f"the count of datagrams could not be reported: {error}")


def _needed(environment: dict[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise Failure(f"{name} is not in the environment", 2)
    return value


def _pem(value: str, name: str) -> bytes:
    """The PEM text itself, or that of the file it names; never shown."""
    if "-----BEGIN" in value:
        return value.encode()
    try:
        with open(value, "rb") as file:
            return file.read(_ANSWER_MAX_BYTES)
    except (OSError, ValueError) as error:
        raise Failure(f"{name} is neither PEM text nor the path of a readable file", 2) from error


def _tls(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    pem = _pem(certificate, "JALIEN_TOKEN_CERT") + b"\n" + _pem(key, "JALIEN_TOKEN_KEY")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"--ca: {ca!r} is not a file of certificates", 2) from error
    # OpenSSL wants a file; a memory file leaves no key on a shared disk.
    with open(os.memfd_create("token"), "wb") as file:
        file.write(pem)
        file.flush()
        try:
            # An encrypted key must fail, not ask the terminal for its password.
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=lambda: b"")
        except ssl.SSLError as error:
            raise Failure("JALIEN_TOKEN_CERT and JALIEN_TOKEN_KEY are no certificate with its key", 2) from error
    return context


def _say(text: str) -> None:
    print(f"job_agent: {text}", file=sys.stderr, flush=True)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--central", required=True, metavar="URL", help="agent_url of the central services' ready line")
    parser.add_argument("--ca", required=True, metavar="FILE", help="certificate authority of central services")
    parser.add_argument(
        "--retry-pause-s", type=float, default=5.0, help="between fruitless matches (default: %(default)s)"
    )
    parser.add_argument(
        "--max-retries", type=int, default=2, help="fruitless matches before it ends (default: %(default)s)"
    )
    parser.add_argument(
        "--report-every-s", type=float, default=120.0, help="while a grid job runs (default: %(default)s)"
    )
    parser.add_argument(
        "--patience-s", type=float, default=120.0, help="with central services away (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if options.max_retries < 1 or options.report_every_s <= 0 or options.retry_pause_s < 0 or options.patience_s < 0:
        parser.error("an option is out of range")
    return options


def main(argv: list[str]) -> int:
    """Lives as a job agent; the exit code."""
    options = _arguments(argv)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        Agent(options, dict(os.environ), stop).live()
    except Failure as failure:
        _say(str(failure))
        return failure.exit_code
    except Stopped:
        _say("ended by SIGTERM")
        return _SIGTERM_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
