"""Answers about tasks, files and accounts."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.runtime.errors import Malformed, NacreError, Overloaded, Refused
from libs.slurm import account_replies, file_replies, task_replies
from libs.slurm.account_replies import NodeHours
from libs.slurm.errors import NotFound
from libs.slurm.outcomes import Accepted, Refusal, RefusalKind, Unclear
from tests.unit.slurm.test_remote_line import answer


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def test_how_a_command_ended() -> None:
    """Running is not ended; output counts whatever the status; without a text the status is the failure."""
    result = {"status": "ok", "output": "x", "error": None}
    assert task_replies.command_end(body({"id": "1", "status": "new", "result": None}), "t") is None
    end = task_replies.command_end(body({"status": "completed", "result": json.dumps(result)}), "t")
    assert end is not None and (end.output, end.failure) == ("x", "")
    for status, given_result, failure in (
        ("completed", {"status": "error", "output": "x", "error": "no"}, "no"),
        ("failed", {"status": "error", "output": None}, "the task failed, status 'error'"),
        ("cancelled", {}, "the task cancelled, status ''"),
    ):
        end = task_replies.command_end(body({"status": status, "result": json.dumps(given_result)}), "t")
        assert end is not None and end.failure == failure
    for raw in (None, 7, "no JSON"):
        end = task_replies.command_end(body({"status": "completed", "result": raw}), "t")
        assert end is not None and end.output == "" and "completed with" in end.failure
    with pytest.raises(Malformed):
        task_replies.command_end(b"<html>", "t")


def test_all_tasks() -> None:
    """Submissions by either way with what became of them; commands that only read are left out."""

    def command(step: str, output: str, codes: str = "0") -> str:
        return json.dumps({"status": "ok", "output": answer(output, step=step, codes=codes)})

    tasks = [
        {"id": "1", "status": "new", "result": None},
        {"id": "2", "status": "completed", "result": json.dumps({"status": "ok", "jobid": "16"})},
        {"id": "3", "status": "completed", "result": command("sbatch", "17\n")},
        {"id": "4", "status": "completed", "result": command("squeue", "")},
        {"id": "5", "status": "completed", "result": command("squeue", "", "1")},
        {"id": 6, "status": "completed", "result": json.dumps({"status": "ok", "output": "hello"})},
    ]
    found = {task.task_id: task.outcome for task in task_replies.recent_tasks(body({"tasks": tasks}), "t")}
    assert list(found) == ["1", "2", "3", "5", "6"]
    assert (found["1"], found["2"], found["3"]) == (None, Accepted(job_id="16"), Accepted(job_id="17"))
    assert isinstance(found["5"], Refusal) and found["5"].kind is RefusalKind.BUSY
    assert isinstance(found["6"], Unclear)
    for wrong in (b"[]", b'{"tasks": null}', b'{"tasks": [3]}'):
        with pytest.raises(Malformed):
            task_replies.recent_tasks(wrong, "t")


def test_node_hours_of_the_scarcer_share() -> None:
    """Of our user's share and the project's the one with less left; a kind that is not said is None."""
    project = {
        "repo_name": "m0000", "cpu_hours_given": 100.0, "cpu_hours_used": 10.0, "cpu_project_hours_given": 1000.0,
        "cpu_project_hours_used": 990.0, "gpu_hours_given": 5, "gpu_hours_used": 7.5, "hours_given": 1,
    }  # fmt: skip
    [found] = account_replies.projects(body([project]), "p")
    assert found.account == "m0000"
    assert (found.cpu, found.gpu) == (NodeHours(given=1000.0, used=990.0), NodeHours(given=5.0, used=7.5))
    [bare] = account_replies.projects(body([{"repo_name": "m1", "cpu_hours_given": 3}]), "p")
    assert (bare.cpu, bare.gpu) == (None, None)
    assert account_replies.projects(b"[]", "p") == ()
    for wrong in (b"{}", b'[{"cpu_hours_given": 1}]', b'[{"repo_name": "m", "cpu_hours_given": "many"}]'):
        with pytest.raises(Malformed):
            account_replies.projects(wrong, "p")


def test_a_directory_and_a_file() -> None:
    """Entries without the directory itself, bytes as they were."""
    entries = [{"name": ".", "perms": "drwx"}, {"name": "..", "perms": "drwx"}, {"name": "log", "perms": "drwx------"}]
    entries.append({"name": "a", "perms": "-rw-------", "size": 12.0, "date": "2026-11-23"})  # type: ignore[dict-item]
    log, file = file_replies.entries(body({"status": "OK", "entries": entries}), "ls")
    assert (log.is_directory, file.is_directory, file.size_bytes, file.date) == (True, False, 12, "2026-11-23")
    assert file_replies.content(body({"status": "OK", "file": "é", "is_binary": False}), "f") == "é".encode()
    packed = base64.b64encode(b"\xff").decode()
    assert file_replies.content(body({"status": "OK", "file": packed, "is_binary": True}), "f") == b"\xff"
    file_replies.uploaded(body({"status": "OK", "output": "a"}), "u")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ls: cannot access 'x': No such file or directory", NotFound),
        ("x: Permission denied", Refused),
        ("x: file is larger than 5242880 bytes", Refused),
        ("x: Disk quota exceeded", Refused),
        ("Stale file handle", Overloaded),
        (None, Overloaded),
    ],
)
def test_a_failure_of_a_file_by_its_words(text: str | None, error: type[NacreError]) -> None:
    """Not there, not allowed, or to be tried again."""
    for read in (file_replies.entries, file_replies.content, file_replies.uploaded):
        with pytest.raises(error):
            read(body({"status": "ERROR", "error": text, "entries": [], "file": None}), "f")


@pytest.mark.parametrize(
    "raw", [b"<html>", b"{}", b'{"status": "OK"}', b'{"status": "OK", "file": "?", "is_binary": true}']
)
def test_an_answer_of_another_shape_is_no_file(raw: bytes) -> None:
    """OK without what it should bring, and base64 that is none."""
    with pytest.raises(Malformed):
        file_replies.content(raw, "f")
    if b"file" not in raw:
        with pytest.raises(Malformed):
            file_replies.entries(raw, "f")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_malformed(raw: bytes) -> None:
    """Nothing but the tree's errors comes out."""
    for read in (
        task_replies.command_end, task_replies.recent_tasks, account_replies.projects, file_replies.entries,
        file_replies.content, file_replies.uploaded,
    ):  # fmt: skip
        with pytest.raises(NacreError):
            read(b"\x00" + raw, "x")
