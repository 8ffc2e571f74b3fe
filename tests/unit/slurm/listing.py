"""A pending block as squeue would show it, its task list cut at 64 characters."""

from zoneinfo import ZoneInfo

from libs.slurm.rows import BatchJob, squeue_job
from tests.unit.slurm import golden

MOST_CHARACTERS = 64
PENDING_ROW = next(row for row in golden.rows("squeue-live.txt") if row["st"] == "PD")


def task_text(indices: set[int]) -> str:
    """Ranges and single tasks, cut as Slurm does."""
    pieces: list[list[int]] = []
    for index in sorted(indices):
        if pieces and pieces[-1][-1] == index - 1:
            pieces[-1].append(index)
        else:
            pieces.append([index])
    text = ",".join(str(piece[0]) if len(piece) == 1 else f"{piece[0]}-{piece[-1]}" for piece in pieces)
    return text if len(text) < MOST_CHARACTERS else text[: MOST_CHARACTERS - 4] + "..."


def block(indices: set[int], array_job_id: int = 16, **changes: str) -> BatchJob:
    """The typed row of a pending block."""
    about = {"array_job_id": str(array_job_id), "array_task_id": task_text(indices), **changes}
    return squeue_job(PENDING_ROW | about, ZoneInfo("UTC"))
