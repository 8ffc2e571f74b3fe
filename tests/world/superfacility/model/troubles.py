"""What goes wrong with the model on request: nodes fail, outages come, the controller is away or forgets.

The admin's `POST /_slurm` takes {"action": ...}:
  fail_nodes  {"nodes": [names] or a count, "state"?: "down"|"drain"}: jobs on downed nodes end as NODE_FAIL and, unless
              sbatch said --no-requeue, wait again (BOOT_FAIL where the node was still being configured)
  resume_nodes {"nodes"?: [names]}: bring all of them, or these, back
  forget      {"younger_than_s": s} or {"jobs": [ids]}: accepted jobs are gone from squeue and sacct, and their ids are
              given out again
  away        {"for_s"?: s, "what"?: "controller"|"accounting"}, back {}: commands say that they cannot reach it
  end         {"job": id, "state": any ended state, "exit_code"?}: PREEMPTED, OUT_OF_MEMORY, DEADLINE, REVOKED, ...
  hold, release, suspend, resume, requeue, requeuehold {"job": id}
  mark        {"job": id, "state": SIGNALING, RESIZING, STAGE_OUT, STOPPED, REQUEUE_FED, RESV_DEL_HOLD, ...}: listed so
  refuse      {"text": text, "count"?: n}: the next submissions are refused with sbatch's "... failed: <text>"
All seconds are model seconds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any

from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import (
    CONFIGURING,
    ENDED_STATES,
    FLAGGED_PENDING,
    FLAGGED_RUNNING,
    RUNNING,
    SUSPENDED,
    Batch,
    Element,
)
from tests.world.superfacility.model.limits import AWAY_TEXT, FAILED, RefusedError

ORDERS = ("hold", "release", "suspend", "resume", "requeue", "requeuehold")
FOREVER = float("inf")
ACCOUNTING_AWAY_TEXT = (
    "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:localhost:6819: "
    "Connection refused\nsacct: error: Sending PersistInit msg: Connection refused\n"
    "sacct: error: Problem talking to the database: Connection refused\n"
)


class Troubles:
    """Changes a controller's world; `node_failures_s` is the mean time between failures of single nodes, 0 is never."""

    def __init__(self, controller: Controller, *, node_failures_s: float = 0.0, repair_s: float = 600.0, seed: int = 0):
        self._controller = controller
        self._random = random.Random(seed)
        self._node_failures_s, self._repair_s = node_failures_s, repair_s
        self._away_until = {"controller": 0.0, "accounting": 0.0}
        self._refusals: list[str] = []
        if node_failures_s > 0:
            self._expect_failure()

    def away(self, program: str) -> str:
        """Return what a command says when what it asks is away, else the empty string."""
        now = self._controller.time
        if program == "sacct":
            return ACCOUNTING_AWAY_TEXT if now < self._away_until["accounting"] else ""
        if now >= self._away_until["controller"]:
            return ""
        prefix = {"sbatch": FAILED, "squeue": "slurm_load_jobs error: ", "scontrol": "slurm_load_jobs error: "}
        return f"{prefix.get(program, f'{program}: error: ')}{AWAY_TEXT}\n"

    def refuse(self) -> None:
        """Raise RefusedError when the next submission was to be refused."""
        if self._refusals:
            raise RefusedError(FAILED + self._refusals.pop(0))

    def act(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the admin asks; raises ValueError with a text that says what is wrong."""
        action = asked.get("action")
        self._controller.advance()
        if action in ("fail_nodes", "resume_nodes"):
            return {"nodes": self._nodes(asked, resume=action == "resume_nodes")}
        if action == "forget":
            return {"forgotten": self._forget(asked)}
        if action in ("away", "back"):
            what = asked.get("what", "controller")
            if what not in self._away_until:
                raise ValueError(f"what is one of: {', '.join(self._away_until)}")
            until = self._controller.time + float(asked.get("for_s", FOREVER)) if action == "away" else 0.0
            self._away_until[what] = until
            return {"away": action == "away"}
        if action == "refuse":
            self._refusals += [str(asked.get("text", ""))] * int(asked.get("count", 1))
            return {"refusals": len(self._refusals)}
        if action in ("end", "mark", *ORDERS):
            found = self._controller.find(str(asked.get("job", "")))
            if not found:
                raise ValueError(f"no such job: {asked.get('job')}")
            for element in found:
                self._change(element, str(action), asked)
            return {"jobs": [element.label for element in found]}
        raise ValueError(
            "action is one of: fail_nodes, resume_nodes, forget, away, back, refuse, end, mark, " + ", ".join(ORDERS)
        )

    def order(self, element: Element, order: str) -> None:
        """Do what scontrol orders."""
        controller = self._controller
        if order in ("hold", "uhold") and element.pending:
            element.held = True
            element.own_reason = "JobHeldAdmin" if os.getuid() == 0 and order == "hold" else "JobHeldUser"
        elif order == "release" and element.held and element.end_at is None:
            element.held, element.own_reason, element.eligible_at = False, "", controller.time
            controller.scheduler.wake()
        elif order == "suspend" and element.state == RUNNING:
            element.state, element.suspended_at = SUSPENDED, controller.time
            controller.launch.suspend(element, suspended=True)
        elif order == "resume" and element.state == SUSPENDED:
            element.suspended_s += controller.time - (element.suspended_at or controller.time)
            element.state, element.suspended_at = RUNNING, None
            controller.launch.suspend(element, suspended=False)
        elif order in ("requeue", "requeuehold") and element.on_nodes:
            element.batch.requeue = True
            controller.end(element, "REQUEUED" if order == "requeue" else "REQUEUE_HOLD")

    def outage(self, start_at: float, end_at: float) -> None:
        """Plan a maintenance of all nodes, in wall-clock instants: nothing starts that would reach into it."""
        controller = self._controller
        window = (controller.clock.of_wall(start_at), controller.clock.of_wall(end_at))
        controller.scheduler.windows.append(window)
        controller.at(window[0], lambda: self._begin_outage(window))
        controller.at(window[1], controller.scheduler.wake)

    def cancel_outages(self) -> None:
        """Forget every maintenance that was planned."""
        self._controller.scheduler.windows.clear()
        self._controller.scheduler.wake()

    def _begin_outage(self, window: tuple[float, float]) -> None:
        if window in self._controller.scheduler.windows:
            for element in list(self._controller.running()):
                self._controller.end(element, "NODE_FAIL", at_once=True)

    def _change(self, element: Element, action: str, asked: Mapping[str, Any]) -> None:
        state = str(asked.get("state", ""))
        if action in ORDERS:
            self.order(element, action)
        elif action == "end":
            if state not in ENDED_STATES:
                raise ValueError(f"state is one of: {', '.join(ENDED_STATES)}")
            if element.end_at is None:
                element.exit_code = int(asked.get("exit_code", 0))
            self._controller.end(element, state, at_once=True)
        elif state in (FLAGGED_PENDING if element.pending else FLAGGED_RUNNING) and element.end_at is None:
            element.state = state
            element.held = element.held or state in ("RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT")
        else:
            raise ValueError(f"a job that is {element.state} cannot be {state or 'marked without a state'}")

    def _nodes(self, asked: Mapping[str, Any], *, resume: bool) -> list[str]:
        nodes, given = self._controller.nodes, asked.get("nodes")
        busy = [name for element in self._controller.running() for name in element.nodes]
        if isinstance(given, int):
            pool = [name for name in (busy or nodes.all()) if name not in nodes.down]
            given = self._random.sample(pool, min(given, len(pool)))
        names = list(nodes.down) if given is None and resume else [str(name) for name in given or ()]
        if unknown := [name for name in names if name not in nodes]:
            raise ValueError(f"no such nodes: {', '.join(unknown)}")
        if resume:
            nodes.resume(names, busy)
            self._controller.scheduler.wake()
            return names
        state = str(asked.get("state", "down"))
        if state not in ("down", "drain"):
            raise ValueError("state is down or drain")
        self._fail(names, state)
        return names

    def _fail(self, names: list[str], state: str) -> None:
        for name in names:
            self._controller.nodes.take_down(name, state)
        for element in list(self._controller.running()) if state == "down" else []:
            if any(name in names for name in element.nodes):
                final = "BOOT_FAIL" if element.state == CONFIGURING else "NODE_FAIL"
                self._controller.end(element, final, at_once=True)

    def _expect_failure(self) -> None:
        controller = self._controller
        delay_s = self._random.expovariate(1 / self._node_failures_s)
        controller.at(controller.time + delay_s, self._fail_one)

    def _fail_one(self) -> None:
        controller = self._controller
        up = [name for name in controller.nodes.all() if name not in controller.nodes.down]
        if up:
            name = self._random.choice(up)
            self._fail([name], "down")
            controller.at(controller.time + self._repair_s, lambda: self._repair(name))
        self._expect_failure()

    def _repair(self, name: str) -> None:
        self._controller.nodes.resume([name], [])
        self._controller.scheduler.wake()

    def _forget(self, asked: Mapping[str, Any]) -> list[int]:
        controller = self._controller
        if "jobs" in asked:
            ids = {str(word) for word in asked["jobs"]}
            lost = [batch for batch in controller.batches.values() if str(batch.job_id) in ids]
        else:
            since = controller.time - float(asked["younger_than_s"]) if "younger_than_s" in asked else FOREVER
            lost = [batch for batch in controller.batches.values() if batch.submit_at >= since]
            if "younger_than_s" not in asked:
                raise ValueError("jobs or younger_than_s is needed")
        for batch in lost:
            self._lose(batch)
        if lost:
            # A restarted slurmctld counts on from the last state that it had saved.
            controller.next_id = min(batch.job_id for batch in lost)
            controller.scheduler.wake()
        return [batch.job_id for batch in lost]

    def _lose(self, batch: Batch) -> None:
        controller = self._controller
        batch.forgotten_at = controller.time
        for element in batch.elements:
            if element.end_at is None:
                controller.submitted[batch.user, batch.qos] -= 1
                if element.on_nodes:
                    controller.launch.stop(element, at_once=True)
                    controller.nodes.give_back(element.nodes)
                element.run += 1
                element.end_at = controller.time
            if element.raw_id is not None:
                controller.started.pop(element.raw_id, None)
        batch.waiting.clear()
        batch.started = 0
        controller.former = [record for record in controller.former if record.batch is not batch]
        for table in (controller.batches, controller.live, controller.scheduler.waiting):
            if table.get(batch.job_id) is batch:
                del table[batch.job_id]
