"""Slurm's job states, 20.11 to 25.x, as one table.

Sources: https://slurm.schedmd.com/job_state_codes.html (states and flags), https://slurm.schedmd.com/squeue.html
(short codes). squeue and sacct print one word for a job, the flag where one is set, else the state.
Decisions behind the table: a batch job that still holds nodes counts as running (COMPLETING, SUSPENDED, STOPPED);
one that waits for nodes, also again after a requeue, counts as queued (CONFIGURING as well: nothing runs yet).
"""

from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """What a state means for counting."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"


# How far a run is in each phase; a state that we do not know says nothing.
RANK = {Phase.UNKNOWN: -1, Phase.QUEUED: 0, Phase.RUNNING: 1, Phase.ENDED: 2}


class Ending(StrEnum):
    """How a batch job ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIME_LIMIT = "time_limit"
    NODE_FAILED = "node_failed"
    OUT_OF_MEMORY = "out_of_memory"
    PREEMPTED = "preempted"
    REVOKED = "revoked"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One state: Slurm's long name, or UNKNOWN; `text` is what Slurm printed; `ending` only when ended.

    `cancelled_by` is the numeric user id that sacct adds to CANCELLED.
    """

    name: str
    text: str
    phase: Phase
    ending: Ending | None = None
    cancelled_by: int | None = None


UNKNOWN = "UNKNOWN"

# (long name, short code or "", phase, ending)
TABLE: tuple[tuple[str, str, Phase, Ending | None], ...] = (
    ("PENDING", "PD", Phase.QUEUED, None),
    ("CONFIGURING", "CF", Phase.QUEUED, None),
    ("POWER_UP_NODE", "", Phase.QUEUED, None),
    ("EXPEDITING", "", Phase.QUEUED, None),
    ("LAUNCH_FAILED", "", Phase.QUEUED, None),
    ("RECONFIG_FAIL", "", Phase.QUEUED, None),
    ("REQUEUED", "RQ", Phase.QUEUED, None),
    ("REQUEUE_FED", "RF", Phase.QUEUED, None),
    ("REQUEUE_HOLD", "RH", Phase.QUEUED, None),
    ("RESV_DEL_HOLD", "RD", Phase.QUEUED, None),
    ("SPECIAL_EXIT", "SE", Phase.QUEUED, None),
    ("RUNNING", "R", Phase.RUNNING, None),
    ("COMPLETING", "CG", Phase.RUNNING, None),
    ("RESIZING", "RS", Phase.RUNNING, None),
    ("SIGNALING", "SI", Phase.RUNNING, None),
    ("STAGE_OUT", "SO", Phase.RUNNING, None),
    ("STOPPED", "ST", Phase.RUNNING, None),
    ("SUSPENDED", "S", Phase.RUNNING, None),
    ("UPDATE_DB", "", Phase.RUNNING, None),
    ("COMPLETED", "CD", Phase.ENDED, Ending.OK),
    ("FAILED", "F", Phase.ENDED, Ending.FAILED),
    ("CANCELLED", "CA", Phase.ENDED, Ending.CANCELLED),
    ("TIMEOUT", "TO", Phase.ENDED, Ending.TIME_LIMIT),
    ("DEADLINE", "DL", Phase.ENDED, Ending.TIME_LIMIT),
    ("NODE_FAIL", "NF", Phase.ENDED, Ending.NODE_FAILED),
    ("BOOT_FAIL", "BF", Phase.ENDED, Ending.NODE_FAILED),
    ("OUT_OF_MEMORY", "OOM", Phase.ENDED, Ending.OUT_OF_MEMORY),
    ("PREEMPTED", "PR", Phase.ENDED, Ending.PREEMPTED),
    ("REVOKED", "RV", Phase.ENDED, Ending.REVOKED),
)

_BY_WORD = {word: row for row in TABLE for word in (row[0], row[1]) if word}
_BY = "CANCELLED by "


def classify(text: str) -> State:
    """The state that Slurm printed as `text`, long or short.

    A word that is not in the table is UNKNOWN, never an error. sacct's `CANCELLED by 1001` sets `cancelled_by`.
    """
    word, cancelled_by = text.strip(), None
    if word.startswith(_BY):
        user_id = word[len(_BY) :]
        word, cancelled_by = "CANCELLED", int(user_id) if user_id.isascii() and user_id.isdigit() else None
    row = _BY_WORD.get(word)
    if row is None:
        return State(name=UNKNOWN, text=text, phase=Phase.UNKNOWN)
    return State(name=row[0], text=text, phase=row[2], ending=row[3], cancelled_by=cancelled_by)
