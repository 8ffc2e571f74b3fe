"""Installing files that belong together: interrupted anywhere, the old or the new version is in effect, whole."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.runtime import versions
from libs.runtime.errors import Misconfigured, Overloaded

NOW = datetime(2026, 11, 25, 10, 15, tzinfo=UTC)
LATER = NOW + timedelta(days=1000)
CALLS = (
    "mkdir", "open", "fchmod", "write", "fsync", "close", "symlink", "replace", "readlink", "unlink", "rmdir",
    "scandir", "listdir",
)  # fmt: skip


def files(word: bytes) -> dict[str, versions.File]:
    return {"cert": versions.File(b"certificate " + word, 0o444), "key": versions.File(b"key " + word)}


def found(directory: Path) -> bytes:
    """The word of the version in effect, which both of its files must hold."""
    current = directory / versions.CURRENT
    certificate, key = (current / "cert").read_bytes(), (current / "key").read_bytes()
    assert certificate.removeprefix(b"certificate ") == key.removeprefix(b"key ")
    return key.removeprefix(b"key ")


@contextmanager
def interrupted(at: int, do: Callable[[], None], *, after: bool = False) -> Iterator[list[str]]:
    """Do something instead of the system call number `at` (or right after it); gives the names of the calls made."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            made.append(name)
            if len(made) - 1 == at and not after:
                do()
            is_it = len(made) - 1 == at
            try:
                return real[name](*arguments, **options)
            finally:
                if is_it and after:
                    do()

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name))
        yield made


def calls_of_an_install(directory: Path) -> list[str]:
    """The system calls of a whole install that replaces a version and removes an older one."""
    for number, word in enumerate((b"1", b"2")):
        versions.install(directory, files(word), NOW + timedelta(days=number))
    with interrupted(-1, lambda: None) as made:
        versions.install(directory, files(b"3"), LATER)
    return made


def test_a_version_is_installed_with_its_modes_and_the_one_before_is_kept(tmp_path: Path) -> None:
    """Whatever the umask; older versions and links that were never renamed go."""
    directory = tmp_path / ".config" / "host"
    mask = os.umask(0)
    try:
        first = versions.install(directory, files(b"1"), NOW)
    finally:
        os.umask(mask)
    assert found(directory) == b"1"
    assert (first.stat().st_mode & 0o777, (first / "key").stat().st_mode & 0o777) == (0o750, 0o400)
    assert (first / "cert").stat().st_mode & 0o777 == 0o444
    (directory / ".current.abc").symlink_to("nowhere")
    (directory / "pending").mkdir()
    second = versions.install(directory, files(b"2"), NOW)
    third = versions.install(directory, files(b"3"), LATER)
    assert found(directory) == b"3"
    assert sorted(one.name for one in directory.iterdir()) == sorted(
        [versions.CURRENT, "pending", second.name, third.name]
    )
    assert versions.in_effect(directory) == third.name
    assert "key" not in repr(files(b"s3cret")["key"])


def test_a_fault_at_any_system_call_leaves_a_whole_version(tmp_path: Path) -> None:
    """Each call fails once, as on a full disk: the old version or the new one is whole, and the next one works."""
    calls = calls_of_an_install(tmp_path / "clean")
    assert {"mkdir", "open", "fchmod", "write", "fsync", "close", "symlink", "replace", "scandir"} <= set(calls)
    refused = 0
    for at in range(len(calls)):
        for code in (errno.ENOSPC, errno.EROFS):
            directory = tmp_path / f"{at}-{code}"
            for word in (b"1", b"2"):
                versions.install(directory, files(word), NOW)

            def fail(code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            with interrupted(at, fail):
                try:
                    versions.install(directory, files(b"3"), LATER)
                except Overloaded as error:
                    refused += 1
                    assert os.strerror(code) in str(error)
                    assert "s3cret" not in str(error)
            assert found(directory) in (b"2", b"3")
            versions.install(directory, files(b"4"), LATER + timedelta(days=1))
            assert found(directory) == b"4"
    assert refused > len(calls)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_system_call_a_whole_version_is_in_effect(tmp_path: Path, after: bool) -> None:
    """A child that is gone just before or just after each call; what it left half-made goes with the next install."""
    calls = calls_of_an_install(tmp_path / "clean")
    for at in range(len(calls)):
        directory = tmp_path / str(at)
        for word in (b"1", b"2"):
            versions.install(directory, files(word), NOW)
        child = os.fork()
        if child == 0:
            with interrupted(at, lambda: os._exit(7), after=after):
                versions.install(directory, files(b"3"), LATER)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert found(directory) in (b"2", b"3")
        versions.install(directory, files(b"4"), LATER + timedelta(days=1))
        assert found(directory) == b"4"
        assert len(list(directory.iterdir())) == 3


def test_a_directory_in_the_links_place_is_said(tmp_path: Path) -> None:
    """Somebody made `current` by hand: nothing of it is touched."""
    (tmp_path / versions.CURRENT).mkdir()
    with pytest.raises(Overloaded, match="cannot be written"):
        versions.install(tmp_path, files(b"1"), NOW)
    assert [one.name for one in tmp_path.iterdir()] == [versions.CURRENT]


def test_the_directory_is_that_of_what_the_holders_read(tmp_path: Path) -> None:
    """DIRECTORY/current/NAME; anything else is a slip, with the form to use."""
    path = tmp_path / "host" / "current" / "hostcert.pem"
    assert versions.directory_of(path, "x") == tmp_path / "host"
    assert versions.is_awaited(path)
    versions.install(tmp_path / "host", files(b"1"), NOW)
    assert not versions.is_awaited(path)
    assert not versions.is_awaited(tmp_path / "host" / "hostcert.pem")
    with pytest.raises(Misconfigured, match=r"x is /a/b\.pem, .*set it to /a/current/b\.pem"):
        versions.directory_of(Path("/a/b.pem"), "x")
