"""Files that are private from their first byte and whole or not there, and directories that nobody else can swap."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from blnkctl.system.files import (
    UnsafePath,
    discard,
    ensure_private_directory,
    give_second_name,
    overwrite_in_place,
    publish_once,
    read_private,
    remove_durably,
    write_atomically,
)
from tests.faulty_disk import FaultyDisk


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Let the process create whatever mode it asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    """Return a path's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


# --- directories ------------------------------------------------------------------------------


def test_a_directory_and_its_missing_parents_are_private(tmp_path: Path, no_umask: None) -> None:
    ensure_private_directory(tmp_path / "a" / "b" / "c")

    assert [mode_of(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_parents_that_were_there_keep_their_mode(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    before = mode_of(tmp_path / "home")

    ensure_private_directory(tmp_path / "home" / "state")

    assert mode_of(tmp_path / "home") == before


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    """It may be somebody's home."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(0o755)

    ensure_private_directory(tmp_path / "wide")

    assert mode_of(tmp_path / "wide") == 0o755


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(mode)

    with pytest.raises(UnsafePath, match="others can write into"):
        ensure_private_directory(tmp_path / "wide")


def test_a_directory_of_everybody_is_refused_and_stays_open_to_them(tmp_path: Path) -> None:
    """Such as /tmp, which a root who names it as a state directory would close to the whole machine."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)

    with pytest.raises(UnsafePath, match="is shared by every user"):
        ensure_private_directory(shared)

    assert mode_of(shared) == 0o1777


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(UnsafePath, match=f"{tmp_path} belongs to another user \\(uid {os.getuid()}\\)"):
        ensure_private_directory(tmp_path)


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/deeper"])
def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("kept")

    with pytest.raises(OSError):
        ensure_private_directory(tmp_path / path)

    assert (tmp_path / "file").read_text() == "kept"


# --- whole files ------------------------------------------------------------------------------


def test_a_file_is_private_whatever_the_umask_and_whatever_it_was(tmp_path: Path, no_umask: None) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)

    write_atomically(path, b"new")

    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_whole_or_as_it_was_wherever_the_disk_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    outcomes = []
    for point in range(1, 6):
        with FaultyDisk(tmp_path, first=point, lasting=1, error=errno.EIO) as disk:
            try:
                write_atomically(path, b"new content")
            except OSError as error:
                outcomes.append((path.read_bytes(), error.errno))
        assert list(tmp_path.iterdir()) == [path]

    assert outcomes == [(b"old", errno.EIO)] * 3
    assert not disk.has_failed
    assert path.read_bytes() == b"new content"


def test_a_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "file").symlink_to(tmp_path / "victim")

    write_atomically(tmp_path / "file", b"new")

    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def test_of_two_that_publish_the_first_wins(tmp_path: Path) -> None:
    path = tmp_path / "file"

    assert publish_once(path, b"first") is True
    assert publish_once(path, b"second") is False

    assert (path.read_bytes(), mode_of(path)) == (b"first", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_published_leaves_nothing(tmp_path: Path) -> None:
    for point in (1, 2, 3):
        with FaultyDisk(tmp_path, first=point), pytest.raises(OSError, match="No space left on device"):
            publish_once(tmp_path / "file", b"content")
        assert list(tmp_path.iterdir()) == []


def test_overwriting_in_place_keeps_the_file_and_cuts_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    inode = path.stat().st_ino

    overwrite_in_place(path, b"short")

    assert (path.read_bytes(), path.stat().st_ino) == (b"short", inode)


def test_overwriting_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        overwrite_in_place(tmp_path / "file", b"content")

    assert list(tmp_path.iterdir()) == []


def test_a_second_name_is_for_the_same_file_and_replaces_what_had_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)

    for _ in range(2):
        give_second_name(tmp_path / "first", tmp_path / "second")
        assert (tmp_path / "second").samefile(tmp_path / "first")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]

    assert (tmp_path / "second").read_text() == "first"


@pytest.mark.parametrize("point", [1, 2])
def test_a_second_name_that_cannot_be_given_leaves_what_had_it(tmp_path: Path, point: int) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)

    with FaultyDisk(tmp_path, first=point), pytest.raises(OSError, match="No space left on device"):
        give_second_name(tmp_path / "first", tmp_path / "second")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "first", "second": "second"}


# --- reading and removing ---------------------------------------------------------------------


def test_a_private_file_is_read(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"content")

    assert read_private(tmp_path / "file") == b"content"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_can_read_or_write_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(mode)

    with pytest.raises(UnsafePath, match=f"can be read or written by others \\(mode {mode:04o}\\)"):
        read_private(path)


def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(UnsafePath, match="is a symbolic link"):
        read_private(tmp_path / "link")
    with pytest.raises(UnsafePath, match="is not a regular file"):
        read_private(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "absent")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UnsafePath, match="belongs to another user"):
        read_private(tmp_path / "file")


def test_removing_tells_whether_there_was_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    assert remove_durably(tmp_path / "file") is True
    assert remove_durably(tmp_path / "file") is False
    assert remove_durably(tmp_path / "absent" / "file") is False


def test_discarding_what_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()

    discard(tmp_path / "directory")
    discard(tmp_path / "absent")

    assert (tmp_path / "directory").is_dir()
