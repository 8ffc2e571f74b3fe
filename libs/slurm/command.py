"""The batch queue by commands in a login shell, through the API's command endpoint.

NERSC would rather see the jobs endpoints used; this way works when they do not, looks for the name and submits in one
remote command, and lists without cut lists of array tasks. Source: https://docs.nersc.gov/services/sfapi/.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from libs.runtime import clock
from libs.runtime.errors import Malformed, NacreError, Overloaded
from libs.slurm import listings, programs, remote_line, replies, script
from libs.slurm.batch_queue import SCRIPT_LIMIT_BYTES, Listing, RecentTask
from libs.slurm.errors import AnswerLost
from libs.slurm.outcomes import Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.remote_line import RemoteSaid
from libs.slurm.task_replies import CommandEnd, command_end
from libs.slurm.tasks import Tasks
from libs.slurm.transport import ApiTransport


class CommandQueue:
    """A BatchQueue. Each effect is one command, sent once; a listing is one command for all jobs of the user."""

    def __init__(self, machine: str, api: ApiTransport, tasks: Tasks) -> None:
        self._path = f"/utilities/command/{machine}"
        self._api = api
        self._tasks = tasks

    async def submit(self, batch_script: str) -> Outcome:
        """Look for the name, check the time over there, and sbatch, in one command.

        Accepted also when the name was found: an earlier execution took it.
        """
        if len(batch_script.encode()) > SCRIPT_LIMIT_BYTES:
            return Refusal(kind=RefusalKind.SCRIPT, text=f"the batch script is larger than {SCRIPT_LIMIT_BYTES} bytes")
        try:
            facts = script.facts(batch_script)
        except Malformed as error:
            return Refusal(kind=RefusalKind.SCRIPT, text=str(error))
        if facts.is_void(clock.now()):
            return Refusal(kind=RefusalKind.VOID, text=f"not submitted: it was past {facts.void_after}")
        line = remote_line.submitting(batch_script, facts)
        if len(line) > remote_line.LINE_LIMIT_BYTES:
            text = f"the batch script makes a command of {len(line)} bytes; {remote_line.LINE_LIMIT_BYTES} can be sent"
            return Refusal(kind=RefusalKind.SCRIPT, text=text)
        said = await self._effect(line)
        return remote_line.submission(said) if isinstance(said, RemoteSaid) else said

    async def cancel(self, job_id: str) -> Outcome:
        """One scancel."""
        return (await self.cancel_all([job_id]))[job_id]

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """As many ids to one scancel as a line carries."""
        wanted = list(dict.fromkeys(job_ids))
        outcomes: dict[str, Outcome] = {one: refused for one in wanted if (refused := programs.refused_id(one))}
        parts = [part for part in programs.in_parts(one for one in wanted if one not in outcomes) if part]
        for number, part in enumerate(parts):
            try:
                said = await self._effect(remote_line.cancelling(part))
            except NacreError:
                if number == 0:
                    raise
                break
            if isinstance(said, RemoteSaid):
                outcomes |= programs.cancelled(part, said.exit_code, said.output, said.error)
            else:
                outcomes |= dict.fromkeys(part, said)
        return outcomes

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue."""
        return listings.joined(
            [await self._list(programs.squeue(user, part), user) for part in programs.in_parts(names)]
        )

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct."""
        by_id = [programs.sacct(user, since, job_ids=part) for part in programs.in_parts(job_ids) if part]
        asked = by_id or [programs.sacct(user, since, names=part) for part in programs.in_parts(names)]
        return listings.joined([await self._list(argv, user) for argv in asked])

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """GET /tasks."""
        return await self._tasks.recent()

    async def repeatable(self, argv: Sequence[str]) -> None:
        """Run a program that may run twice and do no harm. Overloaded or Refused when it fails."""
        said = await self._read(remote_line.reading(argv), argv[0])
        programs.raise_for_read(argv[0], said.exit_code, said.error)

    async def _list(self, argv: Sequence[str], user: str) -> Listing:
        listed_at = clock.now()
        said = await self._read(remote_line.reading(argv), argv[0])
        programs.raise_for_read(argv[0], said.exit_code, said.error)
        return listings.of(programs.parse(argv[0], said.output), user=user, listed_at=listed_at)

    async def _read(self, line: str, program: str) -> RemoteSaid:
        """Run a line that changes nothing, and so may be sent again with a new token."""
        what = f"{self._path} ({program})"
        task = replies.posted_task(await self._api.repeatable("POST", self._path, form={"executable": line}), what)
        if not isinstance(task, str):
            raise Overloaded(task.text if isinstance(task, Refusal) else task.why)
        end = await self._tasks.followed(task, command_end)
        if end.failure and "nacre-begin" not in end.output:
            raise Overloaded(f"{what}: {end.failure}")
        return remote_line.read_answer(end.output, what)

    async def _effect(self, line: str) -> RemoteSaid | Refusal | Unclear:
        """Run a line with an effect, sent once. Without a whole answer it is unclear, whatever else was said."""
        task = await self._tasks.begun("POST", self._path, {"executable": line})
        if not isinstance(task, str):
            return task
        end: CommandEnd | None = None
        try:
            end = await self._tasks.followed(task, command_end)
            return remote_line.read_answer(end.output, self._path)
        except (AnswerLost, Malformed) as error:
            said = f"; it said {end.failure!r}" if end is not None and end.failure else ""
            return Unclear(why=f"{error}{said}", task_id=task)
