"""Named locks between the blnkctl processes of one machine, as files of the state directory."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from blnkctl.domain.errors import Busy, StoreUnavailable
from blnkctl.system.files import ensure_private_directory
from blnkctl.system.locks import LockBusy, locked, try_lock

PATIENCE = 10.0


class LockDirectory:
    """`Locks` as files, each removed by its last holder."""

    def __init__(self, directory: Path, patience: float = PATIENCE) -> None:
        self._directory = directory
        self._patience = patience

    @contextmanager
    def hold(self, names: Iterable[str], what: str) -> Iterator[None]:
        """Hold several locks, taken in sorted order so that two takers never wait for each other."""
        with ExitStack() as stack:
            try:
                ensure_private_directory(self._directory)
                for path in sorted(self._path(name) for name in names):
                    stack.enter_context(locked(path, wait=self._patience, remove=True))
            except LockBusy:
                raise Busy(what) from None
            except OSError as error:
                raise _locks_failed(self._directory, error) from None
            yield

    def is_held(self, name: str) -> bool:
        """Tell whether a running process holds the lock."""
        path = self._path(name)
        if not path.exists():
            return False
        try:
            descriptor = try_lock(path)
        except OSError as error:
            raise _locks_failed(self._directory, error) from None
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def _path(self, name: str) -> Path:
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"


def _locks_failed(directory: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"No lock could be taken in {directory}: {error.strerror or error}. Nothing was sent.",
        code="journal_failed",
        hint="Mend that (space, permissions), or name another directory with BLNKCTL_STATE_DIR.",
    )
