"""Serve NERSC's Superfacility API v1.2 in front of a real Slurm or of a model of one.

    python -m tests.world.superfacility --port 0 --state DIR --slurm real|model

`--slurm real` uses the commands of the environment (PATH, SLURM_CONF: see tests.world.slurm).
Ready line: {"api_base_url", "token_url", "client_id", "key_path", "user", "account", "admin_url", "machine",
"time_zone"}.
Admin paths: GET /ledger, GET /_log, GET, POST and DELETE /_faults, POST /_status, POST and DELETE /_outages, GET and
POST /_clients, POST /_account, POST /_slurm (see admin.py, model/troubles.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import getpass
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from tests.world.superfacility.app import TOKEN_PATH, Parts, build_app
from tests.world.superfacility.commands import RealSlurm, Slurm
from tests.world.superfacility.compute import Compute
from tests.world.superfacility.connections import ClosableProtocol
from tests.world.superfacility.facility import MACHINE, Facility
from tests.world.superfacility.faults import KINDS, Faults
from tests.world.superfacility.files import Files
from tests.world.superfacility.gate import API_PATH, LOG_MAX, Gate
from tests.world.superfacility.ledger import Ledger, RealLedger
from tests.world.superfacility.model.controller import Pace
from tests.world.superfacility.model.limits import SUBMIT_LIMIT
from tests.world.superfacility.model.nodes import Size
from tests.world.superfacility.model.slurm import ModelSlurm, Options
from tests.world.superfacility.model.synthetic import DEFAULT_RUN_S
from tests.world.superfacility.model.troubles import Troubles
from tests.world.superfacility.model.truth import ModelLedger
from tests.world.superfacility.oauth import CLIENT_LIFE_S, TOKEN_LIFE_S, Authority
from tests.world.superfacility.tasks import TASK_LIFE_S, Tasks

DEFAULT_ACCOUNT = "m0000"


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.world.superfacility",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 is any free port")
    parser.add_argument("--name", help="host name that clients use, in the URLs (default: --host)")
    parser.add_argument("--state", type=Path, help="directory of the client's key and the user's home")
    parser.add_argument("--slurm", choices=("real", "model"))
    parser.add_argument("--nodes", type=int, default=8, help="the model's nodes")
    parser.add_argument("--cpus", type=int, default=128, help="the model's cores per node")
    model = parser.add_argument_group("the model of Slurm (all seconds are model seconds)")
    model.add_argument("--speed", type=float, default=1.0, help="model seconds in one real second")
    model.add_argument(
        "--synthetic", action="store_true", help="read `# nacre: void_after= run_s=` of a script, run none"
    )
    model.add_argument("--run-s", type=float, default=DEFAULT_RUN_S, help="of synthetic scripts that do not say run_s")
    model.add_argument("--gpu-nodes", type=int, default=0, help="further nodes, for jobs with -C gpu")
    model.add_argument("--submit-limit", type=int, default=SUBMIT_LIMIT, help="QOSMaxSubmitJobPerUserLimit of regular")
    model.add_argument("--schedule-s", type=float, default=0.2, help="between a change and the scheduler's next pass")
    model.add_argument("--configuring-s", type=float, default=0.0, help="in state CONFIGURING before RUNNING")
    model.add_argument("--completing-s", type=float, default=0.0, help="in state COMPLETING after the end")
    model.add_argument("--squeue-lag-s", type=float, default=0.0, help="age of what squeue shows from outside")
    model.add_argument("--sacct-lag-s", type=float, default=0.0, help="age of what sacct knows")
    model.add_argument("--node-failures-s", type=float, default=0.0, help="mean time between two; 0 is never")
    model.add_argument("--repair-s", type=float, default=600.0, help="until a failed node is back")
    model.add_argument("--seed", type=int, default=0, help="of the model's chance")
    parser.add_argument("--latency-s", type=float, default=0.0, help="before each answer")
    parser.add_argument("--task-delay-s", type=float, default=0.0, help="before a task does its work")
    parser.add_argument("--cache-s", type=float, default=10.0, help="age of a listing asked for with cached=true")
    parser.add_argument("--time-zone", default="UTC", help="the machine's; squeue and sacct write local time")
    parser.add_argument("--token-life-s", type=int, default=TOKEN_LIFE_S)
    parser.add_argument("--task-life-s", type=float, default=TASK_LIFE_S)
    parser.add_argument("--task-settle-s", type=float, default=0.0, help="a new task answers 500 for so long")
    parser.add_argument("--client-life-s", type=float, default=CLIENT_LIFE_S, help="of clients made from now on")
    parser.add_argument("--addresses", default="", help="networks (a,b) that a new client may be used from; all")
    parser.add_argument("--faults", action="store_true", help="print the kinds of POST /_faults as JSON, and end")
    parser.add_argument("--user", default=getpass.getuser())
    parser.add_argument("--account", default=DEFAULT_ACCOUNT)
    return parser.parse_args()


class Server(uvicorn.Server):
    """A server that prints the ready line when it listens, and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config, ready: dict[str, str]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(json.dumps(self._ready), flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def user_environment(home: Path, user: str, time_zone: str) -> dict[str, str]:
    """Return what every command and every job of the facility's user inherits."""
    return {"HOME": str(home), "USER": user, "LOGNAME": user, "TZ": time_zone}


def model_options(options: argparse.Namespace) -> Options:
    """Return what the command line says of the model."""
    return Options(
        size=Size(options.nodes, options.cpus, options.gpu_nodes),
        account=options.account,
        speed=options.speed,
        synthetic=options.synthetic,
        run_s=options.run_s,
        submit_limit=options.submit_limit,
        pace=Pace(
            schedule_s=options.schedule_s,
            configuring_s=options.configuring_s,
            completing_s=options.completing_s,
            squeue_lag_s=options.squeue_lag_s,
            sacct_lag_s=options.sacct_lag_s,
        ),
        node_failures_s=options.node_failures_s,
        repair_s=options.repair_s,
        seed=options.seed,
    )


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    state: Path = options.state.resolve()
    home = state / "home"
    home.mkdir(parents=True, exist_ok=True)
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.bind((options.host, options.port))
    base_url = f"http://{options.name or options.host}:{link.getsockname()[1]}"
    environment = user_environment(home, options.user, options.time_zone)
    slurm: Slurm
    ledger: Ledger
    troubles: Troubles | None = None
    if options.slurm == "model":
        slurm = model = ModelSlurm(state / "model", model_options(options), environment=environment, home=home)
        await model.start()
        ledger, troubles = ModelLedger(model.controller), model.troubles
    else:
        slurm = RealSlurm(environment)
        ledger = RealLedger(slurm, home=home)
    authority = Authority(
        state,
        token_life_s=options.token_life_s,
        client_life_s=options.client_life_s,
        addresses=[word for word in options.addresses.split(",") if word],
    )
    tasks = Tasks(delay_s=options.task_delay_s, life_s=options.task_life_s, settle_s=options.task_settle_s)
    parts = Parts(
        base_url=base_url,
        authority=authority,
        facility=Facility(user=options.user, uid=os.getuid(), account=options.account),
        compute=Compute(slurm, ledger, home=home, cache_s=options.cache_s),
        files=Files(home),
        tasks=tasks,
        ledger=ledger,
        faults=Faults(),
        log=deque(maxlen=LOG_MAX),
        troubles=troubles,
    )
    gate = Gate(
        build_app(parts),
        faults=parts.faults,
        authority=authority,
        tasks=tasks,
        log=parts.log,
        latency_s=options.latency_s,
    )
    try:
        await _run_server(gate, link, ready=_ready(options, base_url, authority))
    finally:
        await gate.close()
        await tasks.close()
        await slurm.close()


async def _run_server(gate: Gate, link: socket.socket, *, ready: dict[str, str]) -> None:
    config = uvicorn.Config(
        gate, http=ClosableProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
        timeout_keep_alive=30, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = Server(config, ready)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    await server.serve(sockets=[link])


def _ready(options: argparse.Namespace, base_url: str, authority: Authority) -> dict[str, str]:
    return {
        "api_base_url": base_url + API_PATH,
        "token_url": base_url + TOKEN_PATH,
        "client_id": authority.client_id,
        "key_path": str(authority.key_path.resolve()),
        "user": options.user,
        "account": options.account,
        "admin_url": base_url,
        "machine": MACHINE,
        "time_zone": options.time_zone,
    }


def main() -> int:
    """Check what is needed, and serve."""
    options = read_arguments()
    if options.faults:
        print(json.dumps(KINDS, indent=1))
        return 0
    if options.state is None or options.slurm is None:
        print("--state and --slurm are needed", file=sys.stderr)
        return 2
    if options.slurm == "real":
        missing = [name for name in ("sbatch", "squeue", "sacct", "scancel") if shutil.which(name) is None]
        if missing or not os.environ.get("SLURM_CONF"):
            text = f"missing: {' '.join(missing)}" if missing else "SLURM_CONF is not set (see tests.world.slurm)"
            print(f"no real Slurm to serve: {text}", file=sys.stderr)
            return 2
    os.environ["TZ"] = options.time_zone
    time.tzset()
    # 100,000 job records are long-lived: looking through them again and again would take longer than listing them.
    gc.set_threshold(500_000, 50, 50)
    asyncio.run(serve(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
