"""Memory that a long run has let go of, given back to the system. glibc alone needs to be asked."""

import ctypes
from collections.abc import Callable
from time import monotonic

_INTERVAL = 2.0
_M_ARENA_MAX = -8  # of malloc.h
_ARENAS = 2


class Thrift:
    """Gives memory back now and then. To be made before the threads of a run: else each gets a heap of its own."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._trim: Callable[[int], int] | None = getattr(libc, "malloc_trim", None)
        self._last = monotonic()
        if self._trim is not None:
            libc.mallopt(_M_ARENA_MAX, _ARENAS)

    def now_and_then(self) -> None:
        """Give back what is free, if that was not done in the last seconds."""
        if self._trim is not None and monotonic() - self._last >= _INTERVAL:
            self._trim(0)
            self._last = monotonic()
