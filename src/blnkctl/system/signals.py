"""Interrupts that wait while a step must not be cut in two. Knows nothing of what the step is."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the program to end. The exit code is 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into `Interrupted`, at once or after the step in flight."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self.received: int | None = None
        self._holding = 0
        self._before: dict[int, Any] = {}
        self._on_wait = on_wait

    def install(self) -> None:
        """Take over the three signals, except those the parent ignores (nohup). Only in the main thread."""
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def release(self) -> None:
        """Give the signals back, for a program that takes this one's place, with the two that Python ignores."""
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            self._before[number] = signal.signal(number, signal.SIG_DFL)
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the first signal wait until the block ends; a second one ends it at once.

        The caller finishes normally and asks `received` afterwards: what was done is still to be told.
        """
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1

    def forget(self) -> None:
        """Take a signal that was answered as dealt with."""
        self.received = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._holding and self.received is None:
            self.received = number
            self._on_wait()
            return
        self.received = number
        raise Interrupted(number)


class Unhurried:
    """Signals for a thread, which none ever reaches: the main thread holds them back as long as threads work."""

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Do nothing."""
        yield


class Forwarder:
    """Passes the three signals on to a child, those too that come while it is being started."""

    def __init__(self, is_passed_on: Callable[[int], bool]) -> None:
        self._is_passed_on = is_passed_on
        self._send: Callable[[int], None] | None = None
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Forwarder":
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def started(self, send: Callable[[int], None]) -> None:
        """Take how to signal the child, now that it runs."""
        self._send = send
        while self._waiting:
            send(self._waiting.pop(0))

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_passed_on(number):
            return
        if self._send is None:
            self._waiting.append(number)
        else:
            self._send(number)
