"""Files of the operator's that are read and replaced: what they must be for that."""

import os
import shlex
import stat
from pathlib import Path

from blnkctl.adapters.sinks.unfit import Unfit
from blnkctl.domain.names import escape_unsafe, harmless
from blnkctl.system.mounts import is_mount_point

LONGEST = 1 << 20
_OTHERS_READ_OR_WRITE = stat.S_IROTH | stat.S_IWOTH


def read_file(path: Path) -> bytes:
    """Return what is in a file. Raises Unfit where it is none, OSError where it cannot be read."""
    descriptor = open_itself(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unfit("it is not a regular file")
        return read_all(descriptor)
    finally:
        os.close(descriptor)


def open_itself(path: Path) -> int:
    """Return a descriptor of what is at a path, a link not followed. Raises Unfit, OSError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        if path.is_symlink():
            raise Unfit("it is a symbolic link", "Name the file that it leads to.") from None
        raise


def read_all(descriptor: int) -> bytes:
    """Return what is in an open file. Raises Unfit where that is more than any env file has."""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise Unfit("it has more than 1 MiB")
    return content


def check_directory(directory: Path) -> None:
    """Raise Unfit unless a directory is there, in which not everybody could swap files."""
    shown = escape_unsafe(str(directory))
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        raise Unfit(f"there is no directory {shown}", f"Make it: mkdir -p {_typed(directory)}") from None
    if mode & stat.S_IWOTH:
        reason = f"everybody can write into {shown} (mode {stat.S_IMODE(mode):04o})"
        raise Unfit(reason, f"Close it: chmod o-w {_typed(directory)}; or use another directory.")


def check_replaceable(path: Path, status: os.stat_result) -> None:
    """Raise Unfit unless a file can be replaced by another, and only those may read it who should."""
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise Unfit("it is not a regular file", "Name a file.")
    if mode & _OTHERS_READ_OR_WRITE:
        raise Unfit(f"everybody can read or write it (mode {mode:04o})", f"Close it: chmod o-rw {_typed(path)}")
    if status.st_nlink > 1:
        raise Unfit(f"it has {status.st_nlink} hard links, which would come apart", "Give it one name.")
    if is_mount_point(path):
        raise Unfit("it is mounted as a single file, which cannot be replaced", "Mount its directory instead.")


def _typed(path: Path) -> str:
    """Return a path as it is typed into a shell."""
    return harmless(shlex.quote(str(path)))
