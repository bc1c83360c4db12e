"""Running a program to its end within limits: of time, of output, and whatever it leaves running behind it.

It gets a session of its own, so that all of it can be stopped, and no terminal. Knows nothing of what is run.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import IO

KEPT_OUTPUT = 64 * 1024
_GRACE = 2.0
_PAUSE = 0.05
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` is negative for a signal's, None where it was stopped as it took too long.

    `output` is the end of what it wrote, both streams as they came; `is_cut` tells whether that is not all.
    """

    code: int | None
    output: bytes
    is_cut: bool


def run_within(words: Sequence[str], environment: Mapping[str, str], seconds: float, *, given: bytes = b"") -> Ended:
    """Run a program without a shell, `given` on its standard input, and return how it ended.

    What it left running in the background is neither waited for nor stopped, unless it took too long.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 (without a shell; whose program it is the caller knows)
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
        bufsize=0,
    )
    exchange = _Exchange(process, given)
    try:
        in_time = _wait(process, exchange, time.monotonic() + seconds)
    finally:
        if process.poll() is None:
            _stop(process)
        exchange.close()
    is_cut = exchange.is_cut or len(exchange.kept) > KEPT_OUTPUT
    return Ended(process.returncode if in_time else None, bytes(exchange.kept[-KEPT_OUTPUT:]), is_cut)


def _wait(process: "subprocess.Popen[bytes]", exchange: "_Exchange", deadline: float) -> bool:
    """Feed and listen until the program ends; tell whether it did in time. Its children may hold the pipes open."""
    while process.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        exchange.step(min(left, _PAUSE))
    return True


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


class _Exchange:
    """The two pipes of a running program."""

    def __init__(self, process: "subprocess.Popen[bytes]", given: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.kept = bytearray()
        self.is_cut = False
        self._process = process
        self._to, self._from = process.stdin, process.stdout
        self._given = memoryview(given)
        self._selector = DefaultSelector()
        for pipe, event in ((self._to, EVENT_WRITE), (self._from, EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, event)

    def step(self, seconds: float) -> None:
        """Move what can be moved, or wait so long for it."""
        if not self._selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        for key, _ in self._selector.select(seconds) if self._selector.get_map() else ():
            if key.fileobj is self._to:
                self._write()
            else:
                self._read()

    def close(self) -> None:
        """Take what is left in the pipe, at most what it holds at once, and let go of both."""
        if not self._from.closed:
            self._read()
        for pipe in (self._to, self._from):
            self._done_with(pipe)
        self._selector.close()

    def _write(self) -> None:
        try:
            self._given = self._given[os.write(self._to.fileno(), self._given) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # a program need not read it all
            self._given = self._given[:0]
        if not self._given:
            self._done_with(self._to)

    def _read(self) -> None:
        try:
            part = os.read(self._from.fileno(), _AT_ONCE)
        except BlockingIOError:
            return
        if not part:
            self._done_with(self._from)
        self.kept += part
        if len(self.kept) > 2 * KEPT_OUTPUT:
            del self.kept[:-KEPT_OUTPUT]
            self.is_cut = True

    def _done_with(self, pipe: IO[bytes]) -> None:
        if not pipe.closed:
            self._selector.unregister(pipe)
            pipe.close()
