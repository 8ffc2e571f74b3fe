"""The model's QOS limits, and the words in which Slurm refuses or says why a job waits.

Sources: https://slurm.schedmd.com/resource_limits.html, https://docs.nersc.gov/jobs/policy/
"""

from __future__ import annotations

from dataclasses import dataclass

FAILED = "sbatch: error: Batch job submission failed: "
PARTITION_MAX_TIME_S = 48 * 3600
SUBMIT_LIMIT = 5000


class RefusedError(Exception):
    """slurmctld refuses a submission; the message is what sbatch prints."""


@dataclass(frozen=True)
class QosLimits:
    """Per user, and for one job's time limit; None is no limit."""

    max_submit: int | None = SUBMIT_LIMIT
    max_running: int | None = None
    max_wall_s: int = PARTITION_MAX_TIME_S


def qos_table(submit_limit: int = SUBMIT_LIMIT) -> dict[str, QosLimits]:
    """Return the QOS of the model: as on Perlmutter, `submit_limit` for the large ones."""
    return {
        "regular": QosLimits(submit_limit),
        "preempt": QosLimits(submit_limit),
        "debug": QosLimits(5, 2, 30 * 60),
    }


MAX_SUBMIT_TEXT = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)
RECORDS_TEXT = f"{FAILED}Resource temporarily unavailable"
AWAY_TEXT = "Unable to contact slurm controller (connect failure)"
