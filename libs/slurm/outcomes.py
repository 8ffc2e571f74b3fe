"""What became of one effect on the batch queue, and the table that reads refusals. Pure.

An effect is accepted, refused, or unclear; an unclear one may have happened, or may still happen, and only listings can
tell. So a text is a refusal only when it says so: one in the table, or sbatch's own last words. Anything else is
unclear, and the words are kept whole so that the table can learn them.

Sources of the texts: [22.05] printed by a real Slurm 22.05.8; [errno] the table of messages in Slurm's
https://github.com/SchedMD/slurm/blob/master/src/common/slurm_errno.c; [reason] the limits that sbatch names before its
last words, https://slurm.schedmd.com/job_reason_codes.html; [nersc] NERSC's submit filter,
https://docs.nersc.gov/jobs/errors/ and https://docs.nersc.gov/jobs/troubleshooting/.
"""

from enum import StrEnum

import msgspec


class RefusalKind(StrEnum):
    """Why Slurm or the facility said no; OTHER is a refusal in words that the table does not have yet.

    VOID: the effect would have come later than it may, and was not tried. BUSY: the same request may pass soon.
    """

    SUBMIT_LIMIT = "submit_limit"
    TIME_LIMIT = "time_limit"
    ALLOCATION = "allocation"
    ACCOUNT = "account"
    QOS = "qos"
    QUOTA = "quota"
    REQUEST = "request"
    SCRIPT = "script"
    MAINTENANCE = "maintenance"
    AUTHENTICATION = "authentication"
    BUSY = "busy"
    VOID = "void"
    OTHER = "other"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Slurm did it; `job_id` as it said."""

    job_id: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Slurm or the facility said no and did nothing; `text` is theirs."""

    kind: RefusalKind
    text: str


class Unclear(msgspec.Struct, frozen=True, kw_only=True):
    """The effect may have happened, or may still happen; `why` it is not known.

    `task_id` names the API's task that was still to tell, empty when there is none; `unknown_text` holds the words that
    no row of the table knows, empty when that is not the reason.
    """

    why: str
    task_id: str = ""
    unknown_text: str = ""


Outcome = Accepted | Refusal | Unclear

# The longest text of theirs that is kept: enough for any message of Slurm's, and bounded on the bus.
TEXT_LIMIT = 2000

# Slurm may have taken the job before its answer was lost; sbatch prints these as errors all the same [errno].
_UNCLEAR = (
    "timed out",  # "Socket timed out on send/recv operation", which NERSC names a busy scheduler [nersc]
    "timeout",
    "zero bytes were transmitted",
    "unexpected message received",
    "communication connection failure",
    "communication shutdown failure",
    "connection reset",
    "connection closed",
    "transport endpoint is not connected",
    "unable to contact slurm controller",  # with a backup controller "connect failure" can be said of the second
    "slurm backup controller",
    "message send failure",
    "message receive failure",
    "header lengths are longer than data received",
)

# First match wins; texts in lower case.
_REFUSED: tuple[tuple[str, RefusalKind], ...] = (
    ("maxsubmitjob", RefusalKind.SUBMIT_LIMIT),  # QOSMaxSubmitJobPerUserLimit [22.05], AssocMaxSubmitJobLimit [reason]
    ("grpsubmitjobs", RefusalKind.SUBMIT_LIMIT),  # AssocGrpSubmitJobsLimit, QOSGrpSubmitJobsLimit [reason]
    ("maxwall", RefusalKind.TIME_LIMIT),  # QOSMaxWallDurationPerJobLimit, AssocMaxWallDurationPerJobLimit [reason]
    ("requested time limit is invalid", RefusalKind.TIME_LIMIT),  # [errno]
    ("job's time limit exceeds", RefusalKind.TIME_LIMIT),
    ("time limit specification", RefusalKind.TIME_LIMIT),
    ("job cost estimated", RefusalKind.ALLOCATION),  # "... at X node hours, your balance is Y" [nersc]
    ("requires an lower balance", RefusalKind.ALLOCATION),  # QOS overrun while there is an allocation left [nersc]
    ("out of allocation", RefusalKind.ALLOCATION),
    ("insufficient balance", RefusalKind.ALLOCATION),
    ("allocation is exhausted", RefusalKind.ALLOCATION),
    ("negative balance", RefusalKind.ALLOCATION),
    ("available balance", RefusalKind.ALLOCATION),
    ("overrun", RefusalKind.ALLOCATION),
    ("grpcpumins", RefusalKind.ALLOCATION),  # AssocGrpCPUMinutesLimit and the like [reason]
    ("grpcpuminutes", RefusalKind.ALLOCATION),
    ("grptresmins", RefusalKind.ALLOCATION),
    ("grpbillingminutes", RefusalKind.ALLOCATION),
    ("grpnodeminutes", RefusalKind.ALLOCATION),
    ("usage threshold", RefusalKind.ALLOCATION),  # "... breached requested QOS usage threshold" [errno]
    ("balance information for user", RefusalKind.ACCOUNT),  # "No available node hour ..." [nersc]
    ("invalid account", RefusalKind.ACCOUNT),  # [22.05]
    ("invalid qos", RefusalKind.QOS),  # [22.05]
    ("file system quota", RefusalKind.QUOTA),  # "Your account has exceeded a file system quota ..." [nersc]
    ("quota exceeded", RefusalKind.QUOTA),
    ("maintenance", RefusalKind.MAINTENANCE),  # "Job can not start due to maintenance reservation." [errno]
    ("submissions disabled", RefusalKind.MAINTENANCE),  # "System submissions disabled" [errno]
    ("presently disabled", RefusalKind.MAINTENANCE),  # [errno]
    ("required partition not available", RefusalKind.MAINTENANCE),  # "... (inactive or drain)" [errno]
    ("requested partition configuration not available", RefusalKind.MAINTENANCE),  # [errno]
    ("partition in down state", RefusalKind.MAINTENANCE),  # [errno]
    ("rate limit exceeded", RefusalKind.BUSY),  # slurmctld's own limit per user [errno]
    ("unable to create job record, try again", RefusalKind.BUSY),  # [errno]
    ("temporarily unable to accept job", RefusalKind.BUSY),
    ("violates accounting/qos policy", RefusalKind.SUBMIT_LIMIT),  # [22.05]; alone it does not say which limit
    ("no architecture specified", RefusalKind.REQUEST),  # without -C [nersc]
    ("does not match any supported policy", RefusalKind.REQUEST),  # [nersc]
    ("more resources requested than allowed", RefusalKind.REQUEST),  # [nersc]
    ("more processors requested than permitted", RefusalKind.REQUEST),  # [errno]
    ("invalid feature", RefusalKind.REQUEST),  # [22.05]
    ("invalid license", RefusalKind.REQUEST),  # [22.05]
    ("invalid partition", RefusalKind.REQUEST),  # [22.05]
    ("invalid job array", RefusalKind.REQUEST),  # [22.05]
    ("invalid node name", RefusalKind.REQUEST),  # [22.05]
    ("reservation", RefusalKind.REQUEST),  # "Requested reservation is invalid" [22.05], "Access denied to ..." [errno]
    ("invalid generic resource", RefusalKind.REQUEST),  # [errno]
    ("memory specification can not be satisfied", RefusalKind.REQUEST),  # [22.05]
    ("requested node configuration is not available", RefusalKind.REQUEST),  # [22.05]
    ("requested nodes not in this partition", RefusalKind.REQUEST),  # [errno]
    ("count specification invalid", RefusalKind.REQUEST),  # nodes, CPUs, tasks [errno]
    ("does not look like a batch script", RefusalKind.SCRIPT),  # [22.05]
    ("batch script is empty", RefusalKind.SCRIPT),  # [22.05]
    ("batch script contains", RefusalKind.SCRIPT),  # "... only whitespace!", "... DOS line breaks" [22.05]
    ("job script not specified", RefusalKind.SCRIPT),  # [errno]
    ("parameter too long", RefusalKind.SCRIPT),  # above max_script_size [22.05]
    ("unrecognized option", RefusalKind.SCRIPT),  # [22.05]
    ("specification", RefusalKind.SCRIPT),  # "Invalid --time specification" [22.05]
    ("not authenticated", RefusalKind.AUTHENTICATION),  # the API
    ("authentication error", RefusalKind.AUTHENTICATION),  # munge, through Slurm [errno]
    ("authentication credential", RefusalKind.AUTHENTICATION),
    ("group not permitted", RefusalKind.AUTHENTICATION),  # [errno]
    ("not authorized", RefusalKind.AUTHENTICATION),
    ("permission denied", RefusalKind.AUTHENTICATION),  # "Access/permission denied" [errno]
    ("invalid user id", RefusalKind.AUTHENTICATION),  # [errno]
    ("invalid job id", RefusalKind.REQUEST),  # scancel [22.05]
    ("already completing or completed", RefusalKind.REQUEST),  # scancel [errno]
    ("batch job submission failed", RefusalKind.OTHER),  # sbatch's last word for whatever slurmctld denied [22.05]
    ("job submit/allocate failed", RefusalKind.OTHER),  # [nersc]
    ("sbatch: error", RefusalKind.OTHER),
    ("sbatch: fatal", RefusalKind.OTHER),
)


def read_failure(text: str) -> Refusal | Unclear:
    """What a failed effect's text means. None, or one that no row knows, is unclear: better slow than doubled."""
    if not text.strip():
        return Unclear(why="the facility reported a failure without a word")
    lowered = text.lower()
    kept = text[:TEXT_LIMIT]
    for part in _UNCLEAR:
        if part in lowered:
            return Unclear(why=f"the facility reported {kept!r}, after which the effect may still have happened")
    for part, kind in _REFUSED:
        if part in lowered:
            return Refusal(kind=kind, text=kept)
    return Unclear(why=f"the facility reported a failure in unknown words: {kept!r}", unknown_text=kept)
