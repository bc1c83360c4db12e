"""bcrypt comparisons, one on each processor. bcrypt works outside the interpreter's lock, so threads are enough:

no secret and no hash leaves this process, nothing is started that an interrupt or a kill would have to end.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from blnkctl.domain.secret import Secret
from blnkctl.domain.stored_forms import Comparison, StoredForm

FEW = 4
_LONGEST = 72
_GLANCE = 0.1

Progress = Callable[[int, int], None]


class BcryptForms:
    """`SlowForms` by bcrypt. `processors` None: as many as this process may use."""

    def __init__(self, processors: int | None = None) -> None:
        self._processors = processors or _usable_processors()

    def matches(self, form: StoredForm, secret: Secret) -> bool:
        """Tell whether a bcrypt hash is that of a secret."""
        import bcrypt

        plain, hashed = secret.reveal().encode(), form.text.reveal().encode()
        if not form.is_bcrypt or len(plain) > _LONGEST or not form.is_comparable:
            return False
        with suppress(ValueError):  # of a hash's shape, and none
            return bcrypt.checkpw(plain, hashed)
        return False

    def search(self, comparisons: Iterable[Comparison], total: int, progress: Progress) -> dict[int, int]:
        """Compare in the order given; a candidate that was found is compared no more."""
        search = _Search(comparisons, self.matches)
        if total <= FEW or self._processors == 1:
            while search.step():
                progress(search.taken, total)
        else:
            self._in_threads(search, total, progress)
        return search.found

    def _in_threads(self, search: "_Search", total: int, progress: Progress) -> None:
        from concurrent.futures import ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(self._processors, "bcrypt")
        try:
            running = {pool.submit(search.run) for _ in range(self._processors)}
            while running:
                done, running = wait(running, timeout=_GLANCE)
                progress(search.taken, total)
                for worker in done:
                    worker.result()
        finally:
            search.stop()  # an interrupt waits for the comparisons in flight, and no longer
            pool.shutdown()


class _Search:
    """Comparisons that several threads take from one another, so that memory stays flat."""

    def __init__(self, comparisons: Iterable[Comparison], matches: Callable[[StoredForm, Secret], bool]) -> None:
        self.found: dict[int, int] = {}
        self.taken = 0
        self._waiting: Iterator[Comparison] = iter(comparisons)
        self._matches = matches
        self._lock = threading.Lock()

    def run(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        """Do the next comparison; tell whether there was one."""
        with self._lock:
            comparison = next(self._waiting, None)
            self.taken += comparison is not None
        if comparison is None:
            return False
        if comparison.candidate not in self.found and self._matches(comparison.form, comparison.secret):
            self.found.setdefault(comparison.candidate, comparison.row)
        return True

    def stop(self) -> None:
        """Let nobody begin another one."""
        with self._lock:
            self._waiting = iter(())


def _usable_processors() -> int:
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
