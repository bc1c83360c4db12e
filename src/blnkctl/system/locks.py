"""Locks between processes, held by the kernel (flock) for as long as their holder lives: a kill releases them."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blnkctl.system.files import PRIVATE_FILE, discard

_PAUSE = 0.05


class LockBusy(Exception):
    """Somebody else holds the lock."""


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take the lock of a file, made if need be. Return its descriptor, or None if another holds it.

    A holder may remove its lock file when it is done, so what was locked must still be what the name means.
    """
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        if _is_still_named(descriptor, path):
            return descriptor
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, PRIVATE_FILE)


def _is_still_named(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


@contextmanager
def locked(path: Path, *, wait: float = 0.0, shared: bool = False, remove: bool = False) -> Iterator[None]:
    """Hold a file's lock, waiting up to `wait` seconds for it; `remove` takes the file away afterwards.

    Raises:
        LockBusy: another held it all that time.
    """
    deadline = time.monotonic() + wait
    while (descriptor := try_lock(path, shared=shared)) is None:
        if time.monotonic() >= deadline:
            raise LockBusy(path.name)
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        if remove:
            discard(path)
        os.close(descriptor)
