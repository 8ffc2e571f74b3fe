"""The batch queue as its callers see it, whatever way leads to it: API endpoints, remote commands, local commands.

Reads raise the tree's errors and never show less than there is without saying so. An effect answers with an outcome;
it raises only when surely nothing left. The job name is the key of a submission: ids may be reused by Slurm.
`tests/contract/batch_queue` holds every implementation to this.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from libs.slurm.outcomes import Outcome
from libs.slurm.rows import BatchJob

# The facility's own ceiling is not published; a script of ours has a few kB, so this only stops nonsense.
SCRIPT_LIMIT_BYTES = 1_000_000


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What squeue or sacct showed. Only a `complete` one may be counted; `why_not` says what is wrong with another.

    `listed_at` is the instant before the request left: whatever Slurm took later need not be in it.
    """

    rows: tuple[BatchJob, ...]
    complete: bool
    why_not: str
    listed_at: datetime


class RecentTask(msgspec.Struct, frozen=True, kw_only=True):
    """One of the API's tasks of the last minutes; `outcome` is None while it runs, and says nothing of whose it was."""

    task_id: str
    outcome: Outcome | None


class BatchQueue(Protocol):
    """One machine's batch queue."""

    async def submit(self, script: str) -> Outcome:
        """sbatch this script, at most once. The script names itself (`#SBATCH -J`) and says its `# nacre: void_after`.

        Refused as VOID when that instant has passed. Raises an error of the tree only when surely nothing left.
        """

    async def cancel(self, job_id: str) -> Outcome:
        """scancel one job (`16`) or array task (`16_3`); outcomes and errors as for submit.

        Accepted says that Slurm took the order, also for a job that has ended or that it does not know.
        Ids may be reused after a slurmctld crash: whoever asks has just seen the name beside the id.
        """

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """scancel several, in one call where the way allows it; an outcome for each id that was tried.

        An id that is missing in the answer was not tried. Raises only when surely nothing left for any.
        """

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue of all live batch jobs of `user`, or of those with such names; never a cached one.

        A failure raises, it never lists nothing.
        """

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct of the batch jobs of `user` since an instant: all, or only those ids or names (not both).

        By name or user alone sacct leaves out what was never eligible (held or throttled array tasks); by id it shows
        them. An array task cancelled out of a pending block is in neither.
        """

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """The API's tasks that still exist (about ten minutes); empty where effects need none."""
