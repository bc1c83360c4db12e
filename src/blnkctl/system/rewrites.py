"""Replacing a file that other programs read by one of the same owner, group, mode and attributes, or not at all.

Knows nothing of what is in it.
"""

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blnkctl.system.files import PRIVATE_FILE, TEMPORARY_PREFIX, discard, sync_directory, write_temporary


class FileChanged(Exception):
    """Somebody else changed, made or removed the file meanwhile; it is as they left it."""


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it was when it was opened, before it was read."""

    descriptor: int
    status: os.stat_result

    @classmethod
    def of(cls, descriptor: int) -> "Original":
        """Look at an open file."""
        return cls(descriptor, os.fstat(descriptor))


def rehearse(path: Path, size: int, like: Original | None) -> None:
    """Write as many zeros beside a file as are to replace it, owned like it, and take them away again.

    Raises:
        OSError: the file could not be replaced.
    """
    discard(_write_beside(path, bytes(size), like))


def rewrite(path: Path, content: bytes, like: Original | None) -> None:
    """Replace a file, or make a new one, 0600, where there was none (None).

    Raises:
        FileChanged: it is not as it was when it was opened.
        OSError: it holds what it held, or the new content, whole.
    """
    temporary = _write_beside(path, content, like)
    try:
        if not _is_still(path, like):  # whoever writes in the instant after this is overwritten
            raise FileChanged(path)
        os.replace(temporary, path)
    except BaseException:
        discard(temporary)
        raise
    sync_directory(path.parent)


def sweep(path: Path) -> None:
    """Remove what killed processes left beside a file; only for whoever holds the file's lock."""
    prefix = _prefix(path)
    with suppress(OSError), os.scandir(path.parent) as entries:  # some directories may be written, not listed
        for entry in entries:
            if entry.name.startswith(prefix):
                discard(Path(entry.path))


def _write_beside(path: Path, content: bytes, like: Original | None) -> Path:
    prepare = None if like is None else _taking_after(like.descriptor)
    return write_temporary(path.parent, content, PRIVATE_FILE, prefix=_prefix(path), prepare=prepare)


def _prefix(path: Path) -> str:
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _taking_after(model: int) -> Callable[[int], None]:
    def take_after(descriptor: int) -> None:
        wanted, given = os.fstat(model), os.fstat(descriptor)
        if (wanted.st_uid, wanted.st_gid) != (given.st_uid, given.st_gid):
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))
        _mirror_attributes(model, descriptor)

    return take_after


def _mirror_attributes(model: int, descriptor: int) -> None:
    """Copy access lists and labels, and drop those that a new file got from its directory's default."""
    if sys.platform != "linux":
        return
    wanted, given = _attributes(model), _attributes(descriptor)
    for name in given.keys() - wanted.keys():
        os.removexattr(descriptor, name)
    for name, value in wanted.items():
        if given.get(name) != value:
            os.setxattr(descriptor, name, value)


def _attributes(descriptor: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(descriptor)
    except OSError:  # a file system that has none
        return {}
    return {name: os.getxattr(descriptor, name) for name in names}


def _is_still(path: Path, original: Original | None) -> bool:
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return original is None
    return original is not None and _identity(now) == _identity(original.status)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
