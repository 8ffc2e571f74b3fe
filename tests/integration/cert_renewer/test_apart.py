"""Processes apart: what they cannot do, and how they end, becomes an error here; none is left behind."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.runtime.errors import Misconfigured, NacreError, Overloaded, RateLimited, Unreachable
from libs.runtime.site import Site
from services.cert_renewer.apart import process
from services.cert_renewer.apart.work import FACILITY, Put, Trial
from tests.integration.cert_renewer.conftest import Place


class Question(msgspec.Struct, frozen=True):
    """What the test's own processes are asked."""

    text: str


CHILD = """
import os, sys, time
import msgspec
from libs.runtime.errors import RateLimited, Transient
from services.cert_renewer.apart.process import carry_out
from tests.integration.cert_renewer.test_apart import Question

def do(question):
    if question.text == "limited":
        raise RateLimited("slow down\\n\\x1b[2J", 5.0)
    if question.text == "bug":
        raise ZeroDivisionError("a bug")
    if question.text == "sleep":
        time.sleep(60)
    if question.text == "die":
        os.kill(os.getpid(), 9)
    return question.text.upper()

carry_out(Question, do)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that answers, fails, sleeps or dies."""
    (tmp_path / "answering_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    return "answering_child"


async def ask(child: str, text: str, within_s: float = 20.0) -> str:
    return await process.made(child, Question(text), str, within_s=within_s, what="child")


async def test_what_is_made_comes_back(child: str) -> None:
    """One document in, one out."""
    assert await ask(child, "abc") == "ABC"


async def test_errors_of_the_tree_are_raised_here(child: str) -> None:
    """With who said it, without what a terminal would obey, and with the time to wait."""
    with pytest.raises(RateLimited, match=r"^child: slow down") as caught:
        await ask(child, "limited")
    assert caught.value.retry_after_s == 5.0
    assert "\x1b" not in str(caught.value)


async def test_bugs_and_deaths_are_said(child: str) -> None:
    """The last line of a bug; the signal of a death; a module that is none."""
    with pytest.raises(Overloaded, match="child: its process ended with 1: ZeroDivisionError: a bug"):
        await ask(child, "bug")
    with pytest.raises(Overloaded, match="its process ended with -9"):
        await ask(child, "die")
    with pytest.raises(Overloaded, match="No module named"):
        await ask("no.such.module", "x")


async def test_one_that_does_not_end_is_ended(child: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its bound it is killed, and nothing of it runs on."""
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    with pytest.raises(Unreachable, match=r"child: not done in 0\.5 s"):
        await ask(child, "sleep", 0.5)
    assert [one.returncode for one in started] == [-9]
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


async def test_a_machine_without_a_client_is_said(place: Place, site: Site) -> None:
    """What libs/slurm says of the site file, also from over there; what is put is not shown."""
    (place.client / "key").unlink()
    with pytest.raises(Misconfigured, match=r"m: Superfacility API key: .*key cannot be read"):
        await process.made(FACILITY, Trial(site, "perlmutter"), object, within_s=30, what="m")
    put = Put(site, "perlmutter", "/a", b"s3cret")
    assert "s3cret" not in repr(put)
    with pytest.raises(NacreError) as caught:
        await process.made(FACILITY, put, type(None), within_s=30, what="m")
    assert "s3cret" not in str(caught.value)
