"""Durable, private files: written whole or not at all, 0600 from their first byte, never through a planted link."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
TEMPORARY_PREFIX = ".tmp-"


class UnsafePath(OSError):
    """A directory or file that somebody else could read, change or swap. The text says which and why."""


def ensure_private_directory(path: Path) -> None:
    """Make a directory 0700, parents included, or check that an existing one is ours and nobody else's to write.

    Raises:
        UnsafePath: it belongs to another user, or is one that every user shares, such as /tmp.
        OSError: it cannot be made.
    """
    _make_private(path)
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise UnsafePath(f"{path} belongs to another user (uid {status.st_uid})")
    if status.st_mode & stat.S_ISVTX:
        raise UnsafePath(f"{path} is shared by every user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafePath(f"others can write into {path} (mode {stat.S_IMODE(status.st_mode):04o})")


def _make_private(path: Path) -> None:
    """Make a directory and its missing parents, each private: `mkdir -p` would leave the parents to the umask."""
    if not path.is_dir():
        _make_private(path.parent)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        with suppress(OSError):  # one that may not be read cannot be synced
            sync_directory(path.parent)


def write_atomically(path: Path, content: bytes | Iterable[bytes], mode: int = PRIVATE_FILE) -> None:
    """Replace a file: temporary file beside it, fsync, rename, fsync of the directory.

    Raises:
        OSError: nothing was changed.
    """
    temporary = write_temporary(path.parent, content, mode)
    try:
        os.replace(temporary, path)
    except BaseException:
        discard(temporary)
        raise
    sync_directory(path.parent)


def give_second_name(path: Path, name: Path) -> None:
    """Make a file, durable already, appear under another name too, whole at once and replacing what was there.

    Raises:
        OSError: that name is as it was before.
    """
    temporary = name.parent / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
    os.link(path, temporary, follow_symlinks=False)
    try:
        os.replace(temporary, name)
    finally:
        discard(temporary)  # rename(2) leaves it where both names are the file's already
    sync_directory(name.parent)


def publish_once(path: Path, content: bytes) -> bool:
    """Create a file whole unless it exists; of two at once the first wins. Tell whether this call made it.

    Raises:
        OSError: nothing was made.
    """
    temporary = write_temporary(path.parent, content, PRIVATE_FILE)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        discard(temporary)
    sync_directory(path.parent)
    return True


def write_temporary(
    directory: Path,
    content: bytes | Iterable[bytes],
    mode: int,
    *,
    prefix: str = TEMPORARY_PREFIX,
    prepare: Callable[[int], None] | None = None,
) -> Path:
    """Write a new file of random name in a directory, fsynced, and return its path; nothing is left on failure.

    `prepare` is given the descriptor while the file is still empty.
    """
    path = directory / f"{prefix}{os.urandom(8).hex()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            if prepare is not None:
                prepare(descriptor)
            for part in (content,) if isinstance(content, bytes) else content:
                write_fully(descriptor, part)
            sync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        discard(path)
        raise
    return path


def sync(descriptor: int) -> None:
    """Make a file durable. On macOS fsync leaves it in the drive's cache; there is another call for that."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def write_fully(descriptor: int, content: bytes) -> None:
    """Write all of it, however many calls the kernel takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def overwrite_in_place(path: Path, content: bytes) -> None:
    """Cut an existing file to the content's length, write it over in one go, fsync. For blocks reserved before.

    Raises:
        OSError: what the file holds now is unknown.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, len(content))
        write_fully(descriptor, content)
        sync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Read a file that must be a regular one of ours, closed to others.

    Raises:
        FileNotFoundError: there is none.
        UnsafePath: it is a link, belongs to another user, or is open to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise UnsafePath(f"{path} is a symbolic link") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        check_is_private(os.fstat(descriptor), path)
        return file.read()


def read_trusted(path: Path) -> bytes:
    """Read a file that somebody handed us by name: mounted secrets are links, and wider than we would make them.

    Raises:
        FileNotFoundError: there is none.
        UnsafePath: it is no regular file, or another user's.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnsafePath(f"{path} is not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise UnsafePath(f"{path} belongs to another user (uid {status.st_uid})")
        return file.read()


def check_is_nobody_elses(path: Path) -> None:
    """Raise UnsafePath if another user could have written what is there; nothing is no danger."""
    try:
        status = path.stat()
    except OSError:
        return
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafePath(f"{path} belongs to another user (uid {status.st_uid})")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafePath(f"others can write {path} (mode {stat.S_IMODE(status.st_mode):04o})")


def check_is_private(status: os.stat_result, path: Path) -> None:
    """Raise UnsafePath unless this is a regular file of ours that nobody else can read or write."""
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePath(f"{path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise UnsafePath(f"{path} belongs to another user (uid {status.st_uid})")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UnsafePath(f"{path} can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})")


def sync_directory(path: Path) -> None:
    """Make renames and removals in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file if it is there and can be; for leftovers whose stay does no harm."""
    with suppress(OSError):
        path.unlink()


def remove_durably(path: Path) -> bool:
    """Remove a file and fsync its directory. Tell whether it was there.

    Raises:
        OSError: it is still there.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True
