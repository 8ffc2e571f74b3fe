"""Run the central services: `python -m tests.world.central_services --port 0 --state DIR`."""

import argparse
import asyncio
import json
import logging
import re
import signal
import socket
import ssl
import sys
from pathlib import Path

from tests.world.central_services.admin import Admin, limit_attributes
from tests.world.central_services.agent_port import AgentPort, JobAgentsOnly
from tests.world.central_services.defaults import ce_attributes, site_document
from tests.world.central_services.directory import Directory, slash_dn
from tests.world.central_services.faults import Faults, Log
from tests.world.central_services.generations import GENERATIONS
from tests.world.central_services.http_json import server
from tests.world.central_services.pki import Authority
from tests.world.central_services.requests import Requests
from tests.world.central_services.site_config import SiteConfig
from tests.world.central_services.task_queue import Limits, TaskQueue
from tests.world.central_services.wire import WireServer, send_alerts, tls_context

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no name: 1-60 letters, digits, '_', '.', '-'")
    return value


def _port(value: str) -> int:
    number = int(value)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is no port")
    return number


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.world.central_services",
        description="ALICE's central services: the real wire protocol, a task queue of grid jobs, job-agent tokens. "
        "Prints one JSON line when ready; stops on SIGTERM.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=_port, required=True, help="Java protocol over mutual TLS (real: 8098); 0: any")
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="PKI and task queue; kept over restarts"
    )
    parser.add_argument("--admin-port", type=_port, default=0, help="HTTP for whoever plays ALICE (default: any)")
    parser.add_argument(
        "--agent-port", type=_port, default=0, help="HTTPS where job agents get grid jobs (default: any)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--name", action="append", default=[], type=_name, help="further host name in the server's certificate and URLs"
    )
    parser.add_argument("--site", type=_name, default="JTestSite", help="(default: %(default)s)")
    parser.add_argument("--ce", action="append", type=_name, help="short name of a CE, repeatable (default: firstce)")
    parser.add_argument(
        "--ce-host", type=_name, default="vobox.localdomain", help="the CEs' host (default: %(default)s)"
    )
    parser.add_argument(
        "--account", type=_name, default="aliprod", help="the account in role vobox (default: %(default)s)"
    )
    parser.add_argument("--max-jobs", type=int, default=100, help="limit of each new CE (default: %(default)s)")
    parser.add_argument("--max-queued", type=int, default=10, help="limit of each new CE (default: %(default)s)")
    parser.add_argument("--run-s", type=float, default=1.0, help="seconds a grid job runs unless told otherwise")
    parser.add_argument(
        "--generation", choices=sorted(GENERATIONS), default="2022", help="release (default: %(default)s)"
    )
    parser.add_argument(
        "--cache", action="store_true", help="as the real ones, answer GetUptime for 60 s and LDAP for 15 min alike"
    )
    return parser.parse_args(argv)


class Program:
    """The three ports over one task queue."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        state: Path = options.state
        state.mkdir(parents=True, exist_ok=True)
        authority = Authority(state / "pki")
        self._ca = authority.identity
        self._server_identity = authority.server(["localhost", "127.0.0.1", options.host, *options.name])
        self._vobox = authority.client("vobox", options.ce_host)
        self._ordinary = authority.client("ordinary", "jalien")
        self._unknown = authority.client("unknown", "nobody")
        self._ces = [f"ALICE::{options.site}::{ce}" for ce in dict.fromkeys(options.ce or ["firstce"])]
        self._config = self._site_config()
        self._tasks = TaskQueue(state / "task_queue.sqlite")
        limits = Limits(options.max_jobs, options.max_queued)
        for ce in self._ces:
            if self._tasks.add_ce(ce, limits):
                entry = ce_attributes(options.ce_host) | limit_attributes(limits)
                self._config.change({"ces": {ce.rpartition("::")[2]: entry}})
        directory, generation = Directory(self._config), GENERATIONS[options.generation]
        self._requests = Requests(
            self._tasks,
            directory,
            authority,
            generation,
            host=socket.gethostname(),
            ce_host=options.ce_host,
            cache=options.cache,
        )
        self._faults, self._log = Faults(), Log()
        self._wire = WireServer(self._requests, directory, self._faults, self._log, reset_every=generation.reset_every)

    def _site_config(self) -> SiteConfig:
        options = self._options
        subjects = {slash_dn(self._vobox.certificate): options.account, slash_dn(self._ordinary.certificate): "jalien"}
        initial = site_document(
            site=options.site,
            ces=[ce.rpartition("::")[2] for ce in self._ces],
            ce_host=options.ce_host,
            subjects=subjects,
            account=options.account,
        )
        return SiteConfig(options.state / "site_config.json", options.site, initial)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        options = self._options
        wire = await self._wire.start(options.host, options.port, tls_context(self._server_identity, self._ca))
        admin_socket, agent_socket = (
            _listen(options.host, options.admin_port),
            _listen(options.host, options.agent_port),
        )
        admin = server(
            Admin(
                self._tasks,
                self._requests.broker,
                self._config,
                self._faults,
                self._log,
                run_default_s=options.run_s,
                user=options.account,
            ).application()
        )
        agent = server(
            AgentPort(self._tasks, self._requests.broker).application(),
            http=JobAgentsOnly,
            ssl_certfile=self._server_identity.cert_path,
            ssl_keyfile=self._server_identity.key_path,
            ssl_ca_certs=str(self._ca.cert_path),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(admin.serve([admin_socket]))
            group.create_task(agent.serve([agent_socket]))
            await admin.ready.wait()
            await agent.ready.wait()
            ready = self._ready(wire.sockets[0], admin_socket, agent_socket)
            print(json.dumps(ready), flush=True)
            await stopped.wait()
            wire.close()
            await self._wire.stop()
            admin.should_exit = agent.should_exit = True
        self._tasks.close()

    def _ready(self, wire: socket.socket, admin: socket.socket, agent: socket.socket) -> dict[str, object]:
        host = self._options.name[0] if self._options.name else self._options.host
        return {
            "host": host,
            "port": wire.getsockname()[1],
            "admin_url": f"http://{host}:{admin.getsockname()[1]}",
            "agent_url": f"https://{host}:{agent.getsockname()[1]}",
            "ca": str(self._ca.cert_path.resolve()),
            "cert": str(self._vobox.cert_path.resolve()),
            "key": str(self._vobox.key_path.resolve()),
            "account": self._options.account,
            "site": self._options.site,
            "ce": self._ces[0],
            "ces": self._ces,
            "ce_host": self._options.ce_host,
            "ordinary_account": "jalien",
            "ordinary_cert": str(self._ordinary.cert_path.resolve()),
            "ordinary_key": str(self._ordinary.key_path.resolve()),
            "unknown_cert": str(self._unknown.cert_path.resolve()),
            "unknown_key": str(self._unknown.key_path.resolve()),
        }


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.create_server((host, port), backlog=512)
    listening.setblocking(False)
    return listening


def main(argv: list[str]) -> int:
    """Runs the program; the exit code."""
    options = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    send_alerts()
    try:
        asyncio.run(Program(options).run())
    except OSError as error:
        print(f"central_services: cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
