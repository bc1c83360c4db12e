"""A few threads that pull their next piece of work. Knows nothing of what the work is.

What feeds them runs in a thread of its own and keeps a little ahead, so that memory stays flat however much there is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

_TICK = 0.1
_AHEAD = 64
Piece = TypeVar("Piece")


@dataclass(slots=True)
class Pool(Generic[Piece]):
    """Threads for one run. `stop` may be set by anybody: what is in work is finished, nothing more is begun."""

    threads: int
    stop: Event
    _waiting: Queue[Piece | None] = field(default_factory=lambda: Queue(_AHEAD))
    _crashes: list[BaseException] = field(default_factory=list)

    def run(self, pieces: Iterable[Piece], work: Callable[[Piece], None], tick: Callable[[], None]) -> None:
        """Work until there is no more; `tick` is called ten times a second meanwhile, in the caller's thread.

        Raises:
            BaseException: what a thread did not expect; it stopped all.
        """
        gc.enable()  # short commands do without; what runs for long must let go of what it used
        started = [self._start(self._feed, pieces), *(self._start(self._work, work) for _ in range(self.threads))]
        for thread in started:
            while thread.is_alive():
                thread.join(_TICK)
                tick()
        if self._crashes:
            raise self._crashes[0]

    def _start(self, target: Callable[..., None], *arguments: object) -> Thread:
        """Start a thread that does not outlive the program."""

        def guarded() -> None:
            try:
                target(*arguments)
            except BaseException as crash:  # noqa: BLE001 (it is raised again where somebody sees it)
                self._crashes.append(crash)
                self.stop.set()

        thread = Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _feed(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._put(piece)
            if self.stop.is_set():
                return
        for _ in range(self.threads):
            self._put(None)

    def _put(self, piece: Piece | None) -> None:
        while not self.stop.is_set():
            try:
                self._waiting.put(piece, timeout=_TICK)
            except Full:
                continue
            return

    def _work(self, work: Callable[[Piece], None]) -> None:
        while not self.stop.is_set():
            try:
                piece = self._waiting.get(timeout=_TICK)
            except Empty:
                continue
            if piece is None:
                return
            work(piece)
