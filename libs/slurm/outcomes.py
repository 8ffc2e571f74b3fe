"""What became of one effect on the batch queue, and the table that reads Slurm's refusals.

An effect is accepted, refused, or unclear; an unclear one may have happened, or may still happen, and only listings can
tell. So a text is a refusal only when it says so: one in the table, or sbatch's own words. Anything else is unclear.
Texts marked [22.05] were printed by a real Slurm 22.05.8; the rest are the messages of
https://github.com/SchedMD/slurm (src/common/slurm_errno.c) or of NERSC (https://docs.nersc.gov/jobs/errors/).
"""

from enum import StrEnum

import msgspec


class RefusalKind(StrEnum):
    """Why Slurm or the facility said no; OTHER is a refusal in words that the table does not have yet."""

    SUBMIT_LIMIT = "submit_limit"
    TIME_LIMIT = "time_limit"
    ALLOCATION = "allocation"
    ACCOUNT = "account"
    QOS = "qos"
    REQUEST = "request"
    SCRIPT = "script"
    MAINTENANCE = "maintenance"
    AUTHENTICATION = "authentication"
    OTHER = "other"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Slurm did it; `job_id` as it said."""

    job_id: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Slurm or the facility said no and did nothing; `text` is theirs."""

    kind: RefusalKind
    text: str


class Unclear(msgspec.Struct, frozen=True, kw_only=True):
    """The effect may have happened, or may still happen; `why` it is not known."""

    why: str


Outcome = Accepted | Refusal | Unclear

# The longest text of theirs that is kept: enough for any message of Slurm's, and bounded on the bus.
TEXT_LIMIT = 2000

# Slurm may have taken the job before its answer was lost; sbatch prints these as errors all the same.
_UNCLEAR = (
    "socket timed out",
    "timed out",
    "timeout",
    "zero bytes were transmitted",
    "unexpected message received",
    "communication connection failure",
    "connection reset",
    "connection closed",
    "transport endpoint is not connected",
    "unable to contact slurm controller",
    "slurm backup controller",
    "message send failure",
    "message receive failure",
    "header lengths are longer than data received",
)

# First match wins; texts in lower case.
_REFUSED: tuple[tuple[str, RefusalKind], ...] = (
    ("maxsubmitjob", RefusalKind.SUBMIT_LIMIT),  # QOSMaxSubmitJobPerUserLimit [22.05], AssocMaxSubmitJobLimit
    ("grpsubmitjobs", RefusalKind.SUBMIT_LIMIT),
    ("maxwall", RefusalKind.TIME_LIMIT),  # QOSMaxWallDurationPerJobLimit
    ("requested time limit is invalid", RefusalKind.TIME_LIMIT),
    ("job's time limit exceeds", RefusalKind.TIME_LIMIT),
    ("out of allocation", RefusalKind.ALLOCATION),
    ("insufficient balance", RefusalKind.ALLOCATION),
    ("allocation is exhausted", RefusalKind.ALLOCATION),
    ("negative balance", RefusalKind.ALLOCATION),
    ("overrun", RefusalKind.ALLOCATION),
    ("grpcpumins", RefusalKind.ALLOCATION),
    ("grptresmins", RefusalKind.ALLOCATION),
    ("violates accounting/qos policy", RefusalKind.SUBMIT_LIMIT),  # [22.05]; alone it does not say which limit
    ("invalid account", RefusalKind.ACCOUNT),  # [22.05]
    ("invalid qos", RefusalKind.QOS),  # [22.05]
    ("maintenance", RefusalKind.MAINTENANCE),
    ("required partition not available", RefusalKind.MAINTENANCE),
    ("invalid feature", RefusalKind.REQUEST),  # [22.05]
    ("invalid license", RefusalKind.REQUEST),  # [22.05]
    ("invalid partition", RefusalKind.REQUEST),  # [22.05]
    ("invalid job array", RefusalKind.REQUEST),  # [22.05]
    ("requested node configuration is not available", RefusalKind.REQUEST),
    ("node count specification invalid", RefusalKind.REQUEST),
    ("no architecture specified", RefusalKind.REQUEST),
    ("does not look like a batch script", RefusalKind.SCRIPT),  # [22.05]
    ("batch script is empty", RefusalKind.SCRIPT),  # [22.05]
    ("pathname of a file, directory or other parameter too long", RefusalKind.SCRIPT),
    ("batch script contains dos line breaks", RefusalKind.SCRIPT),
    ("unrecognized option", RefusalKind.SCRIPT),  # [22.05]
    ("specification", RefusalKind.SCRIPT),  # "Invalid --time specification" [22.05]
    ("not authenticated", RefusalKind.AUTHENTICATION),
    ("access/permission denied", RefusalKind.AUTHENTICATION),
    ("user not authorized", RefusalKind.AUTHENTICATION),
    ("permission denied", RefusalKind.AUTHENTICATION),
    ("invalid job id", RefusalKind.REQUEST),  # scancel
    ("already completing or completed", RefusalKind.REQUEST),  # scancel
    ("batch job submission failed", RefusalKind.OTHER),  # sbatch's last word for whatever slurmctld denied
    ("sbatch: error", RefusalKind.OTHER),
    ("sbatch: fatal", RefusalKind.OTHER),
)


def read_failure(text: str) -> Refusal | Unclear:
    """What a failed effect's text means. Words that no row knows are unclear: better slow than doubled."""
    lowered = text.lower()
    kept = text[:TEXT_LIMIT]
    for part in _UNCLEAR:
        if part in lowered:
            return Unclear(why=f"the facility reported {kept!r}, after which the effect may still have happened")
    for part, kind in _REFUSED:
        if part in lowered:
            return Refusal(kind=kind, text=kept)
    return Unclear(why=f"the facility reported a failure in unknown words: {kept!r}")
