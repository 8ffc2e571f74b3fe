"""The endpoints of batch jobs, commands and files: what HTTP asks, in terms of Compute and Files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.world.superfacility.commands import Answer
from tests.world.superfacility.compute import Compute, JobsAsked, Snapshot
from tests.world.superfacility.facility import MACHINE
from tests.world.superfacility.files import Files
from tests.world.superfacility.listings import listing_reply
from tests.world.superfacility.replies import Endpoint, InvalidError, checked, flag, whole_number
from tests.world.superfacility.tasks import Tasks

COMPUTE_MACHINES = (MACHINE,)
FILE_MACHINES = ("dtn01", "dtns", MACHINE)


def compute_routes(compute: Compute, tasks: Tasks) -> list[Route]:
    """Return the routes below /compute, and the one that runs commands."""

    async def jobs(request: Request) -> Response:
        query = request.query_params
        kwargs = tuple(query.getlist("kwargs"))
        if "job_id" in request.path_params:
            kwargs = (f"jobid={request.path_params['job_id']}",)
        asked = JobsAsked(
            kwargs,
            sacct=flag(query.get("sacct"), default=False, where=("query", "sacct")),
            cached=flag(query.get("cached"), default=True, where=("query", "cached")),
            index=whole_number(query.get("index"), where=("query", "index")),
            limit=whole_number(query.get("limit"), where=("query", "limit")),
        )
        fault = request.scope.get("nacre.fault")
        as_of: Snapshot | None = fault.snapshot if fault is not None else None
        rows = await compute.jobs(asked, as_of=as_of)
        if isinstance(rows, Answer):
            return JSONResponse({"status": "ERROR", "output": [], "error": rows.error.strip()})
        return listing_reply(rows)

    async def submit(request: Request) -> Response:
        form = await request.form()
        job = _word(form, "job")
        is_path = flag(_word(form, "isPath"), default=False, where=("body", "isPath"))
        args = [str(word) for word in form.getlist("args")]
        return begun(request, lambda: compute.submit(job, is_path=is_path, args=args))

    async def cancel(request: Request) -> Response:
        job_id = str(request.path_params["job_id"])
        return begun(request, lambda: compute.cancel(job_id))

    async def command(request: Request) -> Response:
        executable = _word(await request.form(), "executable")
        return begun(request, lambda: compute.command(executable))

    def begun(request: Request, work: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
        fault = request.scope.get("nacre.fault")
        more_delay_s = fault.delay_s if fault is not None and fault.kind == "slow_task" else 0.0
        task = tasks.begin(work, more_delay_s=more_delay_s)
        return JSONResponse({"task_id": task.id, "status": "OK", "error": None})

    def on_machine(endpoint: Endpoint) -> Endpoint:
        return checked(endpoint, COMPUTE_MACHINES)

    return [
        Route("/compute/jobs/{machine}", on_machine(jobs), methods=["GET"]),
        Route("/compute/jobs/{machine}", on_machine(submit), methods=["POST"]),
        Route("/compute/jobs/{machine}/{job_id}", on_machine(jobs), methods=["GET"]),
        Route("/compute/jobs/{machine}/{job_id}", on_machine(cancel), methods=["DELETE"]),
        Route("/utilities/command/{machine}", checked(command, FILE_MACHINES), methods=["POST"]),
    ]


def file_routes(files: Files) -> list[Route]:
    """Return the routes of ls, download and upload; `path` keeps a leading slash of its own."""

    async def ls(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(files.ls, request.path_params["path"]))

    async def download(request: Request) -> Response:
        binary = flag(request.query_params.get("binary"), default=False, where=("query", "binary"))
        return JSONResponse(await asyncio.to_thread(files.download, request.path_params["path"], binary=binary))

    async def upload(request: Request) -> Response:
        given = (await request.form()).get("file")
        if given is None:
            raise InvalidError("body", "file")
        content = await given.read() if isinstance(given, UploadFile) else given.encode()
        return JSONResponse(await asyncio.to_thread(files.upload, request.path_params["path"], content))

    return [
        Route("/utilities/ls/{machine}/{path:path}", checked(ls, FILE_MACHINES), methods=["GET"]),
        Route("/utilities/download/{machine}/{path:path}", checked(download, FILE_MACHINES), methods=["GET"]),
        Route("/utilities/upload/{machine}/{path:path}", checked(upload, FILE_MACHINES), methods=["PUT"]),
    ]


def _word(form: FormData, name: str) -> str:
    value = form.get(name)
    if value is None:
        raise InvalidError("body", name)
    if not isinstance(value, str):
        raise InvalidError("body", name, text="str type expected", kind="type_error.str")
    return value
