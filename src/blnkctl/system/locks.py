"""Locks between processes, held by the kernel (flock) for as long as their holder lives: a kill releases them."""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blnkctl.system.files import PRIVATE_FILE, discard, ensure_private_directory

_PAUSE = 0.05


class LockBusy(Exception):
    """Somebody else holds the lock."""


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take the lock of a file, made if need be. Return its descriptor, or None if another holds it.

    A holder may remove its lock file when it is done, so what was locked must still be what the name means.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
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


class LockDirectory:
    """Named locks as files of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, names: Iterable[str], *, wait: float) -> Iterator[None]:
        """Hold several locks, taken in sorted order so that two takers never wait for each other.

        Raises:
            LockBusy: one was held by another for longer than `wait` seconds.
        """
        ensure_private_directory(self._directory)
        with ExitStack() as stack:
            for path in sorted(self._path(name) for name in names):
                stack.enter_context(locked(path, wait=wait, remove=True))
            yield

    def is_held(self, name: str) -> bool:
        """Tell whether a running process holds the lock."""
        path = self._path(name)
        if not path.exists():
            return False
        descriptor = try_lock(path)
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def _path(self, name: str) -> Path:
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
