from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.messages import JobAgent
from services.status_tracker.rules import output
from services.status_tracker.rules.output import HEAD_BYTES, TAIL_BYTES
from tests.unit.status_tracker.made import AT, NAME, after, job, record

KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"\n".join([b"A" * 64] * 3) + b"\n-----END RSA PRIVATE KEY-----\n"
JWT = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl"


def failed(number: int = 0, **changes: Any) -> JobAgent:
    about: dict[str, Any] = {"agent": f"a{number}", "ending": "failed", "log_path": "/s/o", "end_at": after(number)}
    return record("ended", **about | changes)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/s/%x-%a.out", f"/s/{NAME}-3.out"),
        ("logs/%A_%a.out", "/work-dir/logs/7_3.out"),
        ("/s/%j.%N.%u.%t.%n.%s", "/s/19.nid001.alicepro.2.0.batch"),
        ("/s/%3a%%", "/s/003%"),
        ("/s/%J", "/s/19"),
        ("/dev/null", ""),
        ("", ""),
    ],
)
def test_where_slurm_lets_it_write(pattern: str, path: str) -> None:
    """sbatch's patterns, below the job's directory when they are relative."""
    row = job("RUNNING", indices=(3,), raw_id=19, node_list="nid[001-002]")
    assert output.path_of(pattern, "/work-dir", row, 3, 2) == path


def test_what_is_not_known_yet_gives_no_path() -> None:
    """Without a node or an id of its own a pattern that asks for one is open; a plain job has Slurm's own index."""
    assert output.path_of("/s/%j", "/w", job(), 0, 0) == ""
    assert output.path_of("/s/%N", "/w", job(), 0, 0) == ""
    assert output.path_of("/s/%N", "/w", job(node_list="nid[1"), 0, 0) == ""
    assert output.path_of("/s/%a", "/w", job(indices=()), 0, 0) == "/s/4294967294"


def test_which_outputs_are_worth_a_request() -> None:
    """Failures of the last hours whose output exists, the latest first, and of each ending so many an hour."""
    records = [failed(number) for number in range(30)] + [failed(40, ending="killed")]
    records += [
        failed(50, ending="completed"), failed(51, log_path=""), failed(52, end_at=None), failed(-13 * 3600),
    ]  # fmt: skip
    found = output.worth_fetching(records, [failed(99)] * 3, after(60))
    assert [one.agent for one in found] == ["a40", *(f"a{number}" for number in range(29, 22, -1))]
    assert output.worth_fetching(records, [failed(99)] * output.FETCHED_PER_HOUR, after(60)) == [records[30]]


def test_short_output_is_kept_whole() -> None:
    """With its size, its path and when it was fetched."""
    found = output.shortened(failed(), b"no CVMFS\n", AT)
    assert (found.head, found.tail, found.size_bytes, found.redacted) == ("no CVMFS\n", "", 9, 0)
    assert (found.agent, found.path, found.fetched_at, found.problem) == ("a0", "/s/o", AT, "")


def test_long_output_keeps_head_and_tail() -> None:
    """Bounded, whatever it was; what was fetched of a longer file never counts as all of it."""
    content = b"a" * HEAD_BYTES + b"b" * 5_000_000 + b"c" * TAIL_BYTES
    found = output.shortened(failed(), content, AT)
    assert (found.head, found.tail, found.size_bytes) == ("a" * HEAD_BYTES, "c" * TAIL_BYTES, len(content))
    barely = output.shortened(failed(), b"d" * (HEAD_BYTES + TAIL_BYTES), AT)
    assert (len(barely.head), barely.tail) == (HEAD_BYTES + TAIL_BYTES, "")


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        KEY[:100],
        KEY[40:],
        JWT,
        b"Authorization: Bearer abcdefgh12345",
        b"Authorization: Basic YWxpY2U6c2VjcmV0",
        b"bearer abcdefgh12345",
        b'JALIEN_TOKEN_KEY="' + KEY + b'"',
        b"export TOKEN=hunter2hunter2",
        b"--password=hunter2",
        b"https://x/?token=abcdef&a=b",
    ],
)
def test_secrets_are_taken_out(secret: bytes) -> None:
    """Keys, tokens and passwords, whole or cut, are not shown; what stands around them is."""
    found = output.shortened(failed(), (b"" if secret == KEY[40:] else b"before\n") + secret + b"\nafter\n", AT)
    assert found.redacted >= 1 and "[redacted]" in found.head
    assert "after" in found.head or secret == KEY[:100]
    for word in ("AAAA", "eyJ", "hunter2", "abcdef", "YWxp"):
        assert word not in found.head


def test_a_secret_across_the_cut_is_taken_out() -> None:
    """The cut comes after."""
    content = b"x" * (HEAD_BYTES - 40) + b"\n" + KEY + b"y" * (HEAD_BYTES + TAIL_BYTES)
    found = output.shortened(failed(), content, AT)
    assert "AAAA" not in found.head + found.tail and found.redacted == 1


def test_certificates_and_words_stay() -> None:
    """What is public is shown."""
    text = (
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nthe token file is missing, password unknown\n"
    )
    assert output.without_secrets(text) == (text, 0)


@given(st.binary(max_size=300))
def test_no_terminal_obeys_it(content: bytes) -> None:
    """Whatever was written, what is kept is printable text, tabs and ends of lines."""
    found = output.shortened(failed(), content, AT)
    assert all(letter.isprintable() or letter in "\n\t\N{REPLACEMENT CHARACTER}" for letter in found.head)
    assert found.size_bytes == len(content)
