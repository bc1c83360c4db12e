"""Memory that a long run has let go of, given back to the system."""

import ctypes
from collections.abc import Callable
from time import monotonic

_INTERVAL = 2.0


class Thrift:
    """Gives memory back now and then. Threads that come and go leave glibc's heaps in pieces that it keeps."""

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._last = monotonic()

    def now_and_then(self) -> None:
        """Give back what is free, if that was not done in the last seconds; other C libraries need no asking."""
        if self._trim is not None and monotonic() - self._last >= _INTERVAL:
            self._trim(0)
            self._last = monotonic()
