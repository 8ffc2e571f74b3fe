"""The cells of sacct's rows: each column a function of one record, so that a listing computes only what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tests.world.superfacility.arrays import LIST_MAX_CHARACTERS, format_tasks
from tests.world.superfacility.model.columns import SACCT_JOB_CONSTANTS, SACCT_STEP_CONSTANTS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import COMPLETING, CONFIGURING, ENDED_STATES, PENDING, RUNNING, Batch, Element
from tests.world.superfacility.model.sheet import Template
from tests.world.superfacility.model.words import Instants, span

# sacct takes this from an exit code at or above it, as if a shell had told of a signal.
SIGNALLED = 128
UNLIMITED_S = 10**9
# Templates that a writer remembers; one is about 10 kB.
ALIKE_MAX = 5_000
SHOWN_AS = {COMPLETING: RUNNING, CONFIGURING: RUNNING}


class Record:
    """One batch job in the state that accounting knows; `step` is its `.batch` step."""

    __slots__ = ("batch", "cpus", "element", "ended", "nodes", "run_s", "start_at", "state", "step", "write")

    def __init__(self, controller: Controller, write: Instants, element: Element, state: str, step: bool) -> None:
        self.element, self.state, self.step, self.write = element, state, step, write
        self.batch = batch = element.batch
        self.start_at = None if state == PENDING else element.start_at
        self.ended = state in ENDED_STATES or state == "REQUEUED"
        started = self.start_at is not None
        self.run_s = int(element.run_s(controller.time)) if started else 0
        # The script itself, sacct's `.batch` step, runs on the first node only.
        self.nodes = 1 if step else batch.nodes
        self.cpus = controller.nodes.cpus * self.nodes if started else batch.nodes

    def seconds(self) -> tuple[object, ...]:
        """Return every instant as the listing shows it, and what else may differ between ended records."""
        it, write = self.element, self.write
        return (
            write.second(self.start_at), write.second(it.end_at), write.second(it.submit_at),
            write.second(it.eligible_at), self.waited_s(), it.suspended_s, it.own_reason, it.held, it.cancelled_by,
        )  # fmt: skip

    def started(self) -> str:
        missing = "None" if self.ended else "Unknown"
        return self.write(self.start_at, missing=missing)

    def waited_s(self) -> int:
        return int(self.start_at - self.element.submit_at) if self.start_at is not None else 0

    def label(self) -> str:
        element = self.element
        if element.raw_id is not None:
            return f"{element.label}.batch" if self.step else element.label
        batch = self.batch
        never = [item.index or 0 for item in batch.never_started()]
        tasks = format_tasks(never, throttle=batch.throttle, cut=False)
        return f"{batch.job_id}_[{tasks}]" if len(tasks) <= LIST_MAX_CHARACTERS else str(batch.job_id)

    def raw_id(self) -> str:
        return str(self.element.raw_id if self.element.raw_id is not None else self.batch.job_id)

    def shown_state(self) -> str:
        element, state = self.element, self.state
        if self.step:
            killed = state in ("CANCELLED", "TIMEOUT") or (element.exit_signal and self.ended)
            return "CANCELLED" if killed else SHOWN_AS.get(state, state)
        if state == "CANCELLED" and element.cancelled_by is not None:
            return f"CANCELLED by {element.cancelled_by}"
        return SHOWN_AS.get(state, state)

    def exit_code(self) -> str:
        if self.step and self.state in ("CANCELLED", "TIMEOUT"):
            return "0:15"
        return f"{self.element.exit_code % SIGNALLED}:{self.element.exit_signal}"

    def resources(self) -> str:
        if self.start_at is None:
            return ""
        billing = "" if self.step else f"billing={self.cpus},"
        return f"{billing}cpu={self.cpus},mem={500 * self.nodes}G,node={self.nodes}"

    def node_list(self) -> str:
        if self.start_at is None:
            return "None assigned"
        return self.element.nodes[0] if self.step else self.element.node_list

    def submitted(self) -> str:
        return self.started() if self.step else self.write(self.element.submit_at, missing="")


SHARED: dict[str, Callable[[Record], str]] = {
    "AllocCPUS": lambda it: str(it.cpus),
    "NCPUS": lambda it: str(it.cpus),
    "AllocNodes": lambda it: str(it.nodes) if it.start_at is not None else "0",
    "NodeList": Record.node_list,
    "CPUTime": lambda it: span(it.cpus * it.run_s, padded=True),
    "CPUTimeRAW": lambda it: str(it.cpus * it.run_s),
    "DBIndex": Record.raw_id,
    "Elapsed": lambda it: span(it.run_s, padded=True),
    "ElapsedRaw": lambda it: str(it.run_s),
    "Start": Record.started,
    "End": lambda it: it.write(it.element.end_at if it.ended else None, missing="Unknown"),
    "Eligible": lambda it: it.started() if it.step else it.write(it.element.eligible_at, missing="Unknown"),
    "AllocTRES": Record.resources,
    "ExitCode": Record.exit_code,
    "JobID": Record.label,
    "JobIDRaw": lambda it: f"{it.raw_id()}.batch" if it.step else it.raw_id(),
    "State": Record.shown_state,
    "Submit": Record.submitted,
}
OF_JOB: dict[str, Callable[[Record], str]] = SHARED | {
    "Reason": lambda it: it.element.reason or "None",
    "Reserved": lambda it: span(it.waited_s(), padded=True),
    "ResvCPU": lambda it: span(it.waited_s(), padded=True),
    "ResvCPURAW": lambda it: str(it.waited_s()),
    "Priority": lambda it: "0" if it.element.held else str(it.batch.priority),
    "Suspended": lambda it: span(it.element.suspended_s, padded=True),
}
# What differs even between tasks of one array that ran side by side.
OWN = frozenset({"JobID", "JobIDRaw", "DBIndex", "NodeList"})
OF_STEP: dict[str, Callable[[Record], str]] = SHARED | {"ReqCPUS": lambda it: str(it.cpus)}


class Writer:
    """Writes records by the columns asked for."""

    def __init__(self, controller: Controller, environment: Mapping[str, str], columns: Sequence[str]) -> None:
        self._controller = controller
        self._instants = Instants(controller.clock, environment)
        self._columns = {name: name for name in columns}
        self._of_job = [OF_JOB[name] for name in self._columns if name in OF_JOB]
        self._of_step = [OF_STEP[name] for name in self._columns if name in OF_STEP]
        self._templates: dict[Batch, tuple[Template, Template, Template]] = {}
        self._alike: dict[tuple[object, ...], Template] = {}
        self._own = [OF_JOB[name] for name in self._columns if name in OWN]

    def all(self, rows: Iterable[tuple[Element, str, bool]]) -> Iterator[tuple[Template, tuple[str, ...]]]:
        """Yield each row's template and what fills its gaps."""
        for element, state, step in rows:
            yield self.row(element, state, step=step)

    def row(self, element: Element, state: str, *, step: bool) -> tuple[Template, tuple[str, ...]]:
        """Return a record's template and what fills its gaps."""
        record = Record(self._controller, self._instants, element, state, step)
        key = (element.batch, state, step, record.run_s, record.seconds(), element.exit_code, element.exit_signal)
        alike = self._alike.get(key) if record.ended else None
        if alike is None:
            template = self._of(element.batch)[2 if step else record.ended]
            if not record.ended or element.raw_id is None:
                return template, tuple([cell(record) for cell in (self._of_step if step else self._of_job)])
            if len(self._alike) >= ALIKE_MAX:
                self._alike.clear()
            alike = self._alike[key] = template.filled(self._gaps(record))
        return alike, tuple([cell(record) for cell in self._own])

    def _gaps(self, record: Record) -> tuple[str, ...]:
        """Return the cells of all records that ended alike: at the same seconds, in the same way, of one batch."""
        of = OF_STEP if record.step else OF_JOB
        return tuple(
            ["%s" if name in OWN else of[name](record).replace("%", "%%") for name in self._columns if name in of]
        )

    def _of(self, batch: Batch) -> tuple[Template, Template, Template]:
        """Return the rows of a batch that go on, that have ended (then with their comment), and of its steps."""
        known = self._templates.get(batch)
        if known is None:
            nodes = str(batch.nodes)
            shared = {"Account": batch.account, "NNodes": nodes, "ReqNodes": nodes}
            limited = batch.time_limit_s < UNLIMITED_S
            job = SACCT_JOB_CONSTANTS | shared | {
                "Constraints": batch.constraint, "GID": str(batch.uid), "Group": batch.group, "JobName": batch.name,
                "Partition": batch.partition, "QOS": batch.qos,
                "ReqTRES": f"billing={nodes},cpu={nodes},mem={500 * batch.nodes}G,node={nodes}",
                "SubmitLine": batch.submit_line, "ReqCPUS": nodes, "ReqMem": f"{500 * batch.nodes}G",
                "Timelimit": span(batch.time_limit_s, padded=True) if limited else "UNLIMITED",
                "TimelimitRaw": str(batch.time_limit_s // 60) if limited else "UNLIMITED", "UID": str(batch.uid),
                "User": batch.user, "WorkDir": str(batch.directory),
            }  # fmt: skip
            if len(self._templates) >= ALIKE_MAX:
                self._templates.clear()
            step = SACCT_STEP_CONSTANTS | {"Account": batch.account, "NNodes": "1", "ReqNodes": "1"}
            known = self._templates[batch] = (
                Template(self._columns, job, frozenset(OF_JOB), by_name=False),
                Template(self._columns, job | {"Comment": batch.comment}, frozenset(OF_JOB), by_name=False),
                Template(self._columns, step, frozenset(OF_STEP), by_name=False),
            )
        return known
