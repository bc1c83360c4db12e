"""How far a bulk change is, and when it is enough. Knows nothing of what is done to an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock

from blnkctl.domain.errors import BlnkctlError, Incomplete, Unsupported
from blnkctl.usecases.revoke import HOPELESS

IN_A_ROW = 3
_TOLD = 20


@dataclass(slots=True)
class Tally:
    """How far it is. `errors` are the first few; `stopped` is why not all of it was tried."""

    total: int
    done: int = 0
    failed: int = 0
    owner: str = ""
    errors: list[BlnkctlError] = field(default_factory=list)
    stopped: BlnkctlError | None = None

    @property
    def problems(self) -> list[BlnkctlError]:
        """What is to be told: the first few errors, and what ended it, once."""
        ended = [] if self.stopped is None or self.stopped in self.errors else [self.stopped]
        return [*self.errors, *ended]


@dataclass(slots=True)
class Headway:
    """Counts what threads did. It is enough when the next item would meet the same, or somebody asked to stop."""

    tally: Tally
    keeps_going: bool = True
    stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _in_a_row: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is begun."""
        return self.stop.is_set()

    def done(self) -> None:
        """Count an item that is done."""
        with self._lock:
            self.tally.done += 1
            self._in_a_row = 0

    def undone(self, problem: BlnkctlError) -> None:
        """Count an item that was done, and turned out not to be."""
        with self._lock:
            self.tally.done -= 1
        self.failed(problem)

    def failed(self, problem: BlnkctlError, *, is_a_sign: bool = True) -> None:
        """Count an item that failed; `is_a_sign`: three of these in a row are enough."""
        with self._lock:
            self.tally.failed += 1
            self._in_a_row += int(is_a_sign)
            self._tell(problem)
        if isinstance(problem, (*HOPELESS, Unsupported)):
            self.enough(problem)
        elif self._in_a_row >= IN_A_ROW and not self.keeps_going:
            self.enough(_three_in_a_row(problem))

    def trouble(self, problem: BlnkctlError) -> None:
        """Tell what went wrong beside the items: none of them failed by it."""
        with self._lock:
            self._tell(problem)
        if isinstance(problem, HOPELESS):
            self.enough(problem)

    def enough(self, why: BlnkctlError) -> None:
        """Begin nothing more; the first reason counts."""
        with self._lock:
            if self.tally.stopped is None:
                self.tally.stopped = why
        self.stop.set()

    def _tell(self, problem: BlnkctlError) -> None:
        if len(self.tally.errors) < _TOLD:
            self.tally.errors.append(problem)

    def watched(self, progress: Callable[[Tally], None], is_stopped: Callable[[], bool]) -> Callable[[], None]:
        """Return what shows the tally and looks whether somebody asked to stop."""

        def tick() -> None:
            progress(self.tally)
            if is_stopped() and not self.is_over:
                self.enough(_interrupted())

        return tick


def _three_in_a_row(last: BlnkctlError) -> Incomplete:
    return Incomplete(
        f"{IN_A_ROW} items in a row failed, the last one with: {last.message}",
        code="stopped",
        hint="Mend that; or go on all the same with --keep-going.",
    )


def _interrupted() -> Incomplete:
    return Incomplete(
        "Interrupted; the steps in flight were finished.",
        code="interrupted",
        hint="The same command goes on where this one was.",
    )
