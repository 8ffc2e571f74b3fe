"""`python -m libs.alice`: recorded streams as JSON lines."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from libs.alice import __main__ as command
from libs.alice import nodes, shown
from libs.alice.nodes import Aborted, Array, ClassDescriptor, ClassRef, Enumerator, TopLevel
from libs.alice.writer import HEADER, Writer
from tests.unit.alice import recordings

FILES = sorted(recordings.FOLDER.glob("*.bin"))
KIND = ClassDescriptor("a.Kind", 0, nodes.SERIALIZABLE | nodes.ENUM_CLASS, ())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_recording_is_shown_in_full(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line per object, in order, with its class and fields; nothing on stderr."""
    assert command.main([str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    name, way, _ = path.name.split(".")
    expected = recordings.objects(recordings.sent(name) if way == "c2s" else recordings.answered(name))
    found = lines(out)
    assert [line["class"] for line in found] == [shown.class_of(item) for item in expected]
    assert [line["n"] for line in found] == list(range(len(expected)))
    for line in found:
        assert list(line) == ["file", "n", "class", "fields", "resets"]
        assert line["file"] == str(path)
        assert {"requestID", "exception", "requester_uid"} <= line["fields"].keys()


def test_resets_are_counted_up_to_each_object(capsys: pytest.CaptureFixture[str]) -> None:
    """The server of the 25-request session reset its stream after every tenth reply."""
    assert command.main([str(recordings.FOLDER / "session-25.s2c.bin")]) == 0
    assert [line["resets"] for line in lines(capsys.readouterr().out)] == [0] * 10 + [1] * 10 + [2] * 5


def test_what_a_recording_holds_can_be_read_off(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, lists and shared objects are where one looks for them."""
    assert command.main([str(recordings.FOLDER / "freeslots-ok.s2c.bin")]) == 0
    (line,) = lines(capsys.readouterr().out)
    fields = line["fields"]
    assert fields["port"] == 10000
    sizes, *numbers = fields["slots"]["+"]
    assert set(sizes) == {"bytes"}
    assert [number["value"] for number in numbers] == [0, 100, 10]
    assert set(fields["requester_ruid"]) == {"again"}


def test_a_private_key_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a key only its class is printed, in the field or by itself."""
    assert command.main([str(recordings.FOLDER / "token-ok.s2c.bin")]) == 0
    (line,) = lines(capsys.readouterr().out)
    key = line["fields"]["privateKey"]
    assert key == {"class": "java.security.KeyRep", "secret": "not shown"}
    assert "size_bytes" in line["fields"]["certificate"]["data"]
    reply = recordings.instances(recordings.answered("token-ok"))[0]
    assert shown.fields_of(Array(KIND, [reply.get("privateKey")]))["items"] == [key]
    reply.parts[-1].fields["privateKey"] = "secret"
    assert shown.fields_of(reply)["privateKey"] == {"class": None, "secret": "not shown"}


def test_the_first_object_that_does_not_parse_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines before the fault are printed; the error says where and in which class; later files are not opened."""
    data = recordings.answered("waiting-ok")
    broken = tmp_path / "broken"
    broken.write_bytes(data + b"\x73\x71\x00\x7e\xff\xff")
    assert command.main([str(broken), str(tmp_path / "absent")]) == 1
    out, err = capsys.readouterr()
    assert len(lines(out)) == 1
    assert err == f"{broken}: a handle that was never given at byte {len(data) + 6}\n"
    broken.write_bytes(data.replace(b"\x74\x00\x02\x34\x39", b"\x7f\x00\x02\x34\x39"))
    assert command.main([str(broken)]) == 1
    out, err = capsys.readouterr()
    assert (out, "in java.util.HashMap" in err) == ("", True)


@pytest.mark.parametrize("cut", [0, 3, 200])
def test_a_stream_that_ends_too_early_is_no_success(
    cut: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recording cut in its header or in an object ends with 1 and the place of its end."""
    path = tmp_path / "cut"
    path.write_bytes(recordings.sent("freeslots-ok")[:cut])
    assert command.main([str(path)]) == 1
    assert "the stream ends before its header or an object is whole" in capsys.readouterr().err


def test_an_unreadable_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be opened is another exit code than what does not parse."""
    assert command.main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'absent'}: No such file or directory\n"


RARE: dict[str, tuple[TopLevel, str | None, object]] = {
    "null": (None, None, None),
    "text": ("a", "java.lang.String", "a"),
    "block": (b"\x01", "TC_BLOCKDATA", {"bytes": "01"}),
    "class": (ClassRef(KIND), "java.lang.Class", {"descriptor": "a.Kind"}),
    "no class": (ClassRef(None), "java.lang.Class", {"descriptor": None}),
    "descriptor": (KIND, "java.io.ObjectStreamClass", {"descriptor": "a.Kind"}),
    "enum": (Enumerator(KIND, "RED"), "a.Kind", {"class": "a.Kind", "constant": "RED"}),
    "numbers": (
        Array(ClassDescriptor("[I", 1, nodes.SERIALIZABLE, ()), [1, 2]),
        "[I",
        {"class": "[I", "items": [1, 2]},
    ),
    "no number": (
        Array(ClassDescriptor("[F", 1, nodes.SERIALIZABLE, ()), [math.nan, 1.5]),
        "[F",
        {"class": "[F", "items": ["nan", 1.5]},
    ),
    "abort": (Aborted("why"), "TC_EXCEPTION", {"exception": "why"}),
}


@pytest.mark.parametrize("case", RARE)
def test_whatever_may_stand_in_a_stream_is_shown(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects that no recording holds have a line, too."""
    value, name, fields = RARE[case]
    path = tmp_path / "rare"
    path.write_bytes(HEADER + Writer().write(value))
    assert command.main([str(path)]) == 0
    (line,) = lines(capsys.readouterr().out)
    assert (line["class"], line["fields"]) == (name, fields)
