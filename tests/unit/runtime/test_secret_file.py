"""Secrets by path: who may read them, files that belong together, replacing one."""

import errno
import os
from pathlib import Path

import pytest

from libs.runtime import secret_file
from libs.runtime.errors import Misconfigured, Overloaded


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_private_file_is_read_with_any_mode_that_keeps_others_out(tmp_path: Path, mode: int) -> None:
    """Kubernetes sets 0400, 0440 and 0640, people 0600."""
    path = tmp_path / "key"
    path.write_text("s3cret")
    path.chmod(mode)
    assert secret_file.read_secret(path, "API key", private=True) == b"s3cret"


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o604, 0o602])
def test_one_that_everyone_may_touch_is_refused_with_how_to_mend_it(tmp_path: Path, mode: int) -> None:
    """The path, the mode and the command, nothing of the content; certificates may be read by all."""
    path = tmp_path / "key"
    path.write_text("s3cret")
    path.chmod(mode)
    with pytest.raises(
        Misconfigured, match=rf"{path} \(mode {mode:04o}\); chmod 0400 it, .*defaultMode 0400"
    ) as caught:
        secret_file.read_secret(path, "API key", private=True)
    assert "s3cret" not in str(caught.value)
    assert secret_file.read_secret(path, "certificate") == b"s3cret"


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    """Nothing is read beyond a bound."""
    path = tmp_path / "key"
    with path.open("wb") as file:
        file.truncate(secret_file.MOST_BYTES + 1)
        file.write(b"x")
    with pytest.raises(Misconfigured, match="larger than"):
        secret_file.read_secret(path, "API key")


def test_a_stamp_changes_with_its_files(tmp_path: Path) -> None:
    """Content, another file in its place, another target of a link; a missing file has one, too."""
    real, link = tmp_path / "a", tmp_path / "b"
    seen = [secret_file.stamp((link,))]
    real.write_text("1")
    link.symlink_to(real)
    seen.append(secret_file.stamp((link,)))
    real.write_text("22")
    seen.append(secret_file.stamp((link,)))
    (tmp_path / "c").write_text("22")
    (tmp_path / "c").replace(real)
    seen.append(secret_file.stamp((link,)))
    assert len(set(seen)) == len(seen)
    assert secret_file.stamp((link,)) == seen[-1]


def test_files_of_one_renewal_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second file changes while the first was read, both are read again."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        for name in ("cert", "key"):
            (tmp_path / version / name).write_text(f"{name} {version}")
    current = tmp_path / "current"
    current.symlink_to("1")
    swaps = iter(["2"])
    read = secret_file.read_secret

    def read_and_swap(path: Path, what: str, *, private: bool = False) -> bytes:
        content = read(path, what, private=private)
        if path.name == "cert" and (target := next(swaps, "")):
            current.unlink()
            current.symlink_to(target)
        return content

    monkeypatch.setattr(secret_file, "read_secret", read_and_swap)
    paths = [current / "cert", current / "key"]
    assert secret_file.read_together(paths, ["a", "b"]) == [b"cert 2", b"key 2"]
    swaps = iter(["1", "2"] * 10)
    with pytest.raises(Overloaded, match="changes while it is read"):
        secret_file.read_together(paths, ["host certificate", "b"])


def test_a_file_is_replaced_in_one_step_with_its_mode(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, the new content, and nothing beside it."""
    path = tmp_path / "token"
    path.write_text("old")
    mask = os.umask(0)
    try:
        secret_file.replace_file(path, b"new", "token file")
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["open", "fchmod", "write", "fsync", "replace"])
def test_a_fault_at_any_step_leaves_the_old_file(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory, no space, no rename: the old file stays whole and nothing is left beside it."""
    path = tmp_path / "token"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(Overloaded, match="No space left on device; the old one stays"):
        secret_file.replace_file(path, b"new", "token file")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    """Only half-written files that are old enough go; what another process writes just now stays."""
    path, old, new = tmp_path / "token", tmp_path / ".token.aa.new", tmp_path / ".token.bb.new"
    for item in (path, old, new):
        item.write_text("x")
        os.utime(item, (10_000, 10_000))
    os.utime(old, (6_000, 6_000))
    assert secret_file.sweep(path, 10_000) == 1
    assert sorted(item.name for item in tmp_path.iterdir()) == [".token.bb.new", "token"]
