"""Threads that ask a limited server under a clock of their own: the same run each time, and none of it waited for."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random

from blnkctl.adapters.blnk.pacing import Pacer, read_notice
from blnkctl.sandbox import RateLimit
from blnkctl.sandbox.limiter import Limiter

PATIENCE = 30.0
PAUSE = 0.2
START = 1000.0


class SharedClock:
    """A clock that lets one thread run at a time, the one that wakes next, and jumps to its hour."""

    def __init__(self) -> None:
        self.longest_sleep = 0.0
        self._now = START
        self._sleepers: list[tuple[float, int, threading.Event]] = []
        self._count = 0

    def now(self) -> datetime:
        """Return a time that never changes."""
        return datetime(2026, 11, 23, tzinfo=UTC)

    def monotonic(self) -> float:
        """Return the hour."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let the others run until it is time."""
        self.longest_sleep = max(self.longest_sleep, seconds)
        mine = self._enter(self._now + seconds)
        self._wake_next()
        mine.wait()

    def run(self, works: list[Callable[[], None]]) -> None:
        """Run every work in a thread of its own, until all are done; raise what one of them raised."""
        with ThreadPoolExecutor(len(works)) as pool:
            running = [pool.submit(self._work, self._enter(self._now), work) for work in works]
            self._wake_next()
        for ended in running:
            ended.result()

    def _enter(self, until: float) -> threading.Event:
        self._count += 1
        mine = threading.Event()
        heappush(self._sleepers, (until, self._count, mine))
        return mine

    def _wake_next(self) -> None:
        if self._sleepers:
            self._now, _, event = heappop(self._sleepers)
            event.set()

    def _work(self, begin: threading.Event, work: Callable[[], None]) -> None:
        begin.wait()
        try:
            work()
        finally:
            self._wake_next()


@dataclass
class Program:
    """One program at work: what came of its requests."""

    pacer: Pacer
    passed: int = 0
    refused: int = 0
    given_up: int = 0

    @property
    def refusals(self) -> float:
        """Return how many of the answers were 429s, of one."""
        return self.refused / max(1, self.refused + self.passed)


class Bench:
    """The sandbox's own limiter, and programs of several threads each that ask it without a rest."""

    def __init__(self, limit: RateLimit, *, announces: bool = True, latency: float = 0.004) -> None:
        self.clock = SharedClock()
        self.limit = limit
        self.limiter = Limiter(limit, self.clock.monotonic)
        self._announces = announces
        self._latency = latency
        self._random = Random(1)

    def run(self, seconds: float, *, threads: int = 8, programs: int = 1) -> list[Program]:
        """Let the programs ask for some time; return what came of it."""
        until = self.clock.monotonic() + seconds
        running = [Program(Pacer(self.clock)) for _ in range(programs)]
        self.clock.run([self._worker(program, until) for program in running for _ in range(threads)])
        return running

    def share(self, programs: list[Program], seconds: float) -> float:
        """Return what passed, of all that could have."""
        return sum(program.passed for program in programs) / (self.limit.burst + self.limit.per_second * seconds)

    def ask(self, program: Program, give_up_at: float) -> bool | None:
        """Send one request in its turn; tell whether it passed, None where its turn did not come."""
        turn = program.pacer.take("/api-keys", give_up_at)
        if turn is None:
            return None
        self._travel()
        left = self.limiter.take("client", "/api-keys")
        self._travel()
        program.pacer.settle(turn, read_notice(429 if left is None else 200, self._headers(left)))
        program.passed += left is not None
        program.refused += left is None
        return left is not None

    def _headers(self, left: int | None) -> Mapping[str, str]:
        announced = self.limiter.headers(left) if self._announces else []
        return {name.lower(): value for name, value in announced}

    def _travel(self) -> None:
        self.clock.sleep(self._latency * self._random.uniform(0.5, 1.5) / 2)

    def _worker(self, program: Program, until: float) -> Callable[[], None]:
        def work() -> None:
            while self.clock.monotonic() < until:
                passed = self.ask(program, self.clock.monotonic() + PATIENCE)
                program.given_up += passed is None
                if not passed:
                    self.clock.sleep(1.0 if self._announces else PAUSE)

        return work
