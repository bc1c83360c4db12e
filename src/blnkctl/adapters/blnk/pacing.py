"""When the next request may go, so that a limiter refuses none: follows it where it announces itself, learns it else.

Owns what is known of each bucket, and the waiting. Knows neither HTTP nor what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blnkctl.ports import Clock

_REMEMBERED_BUCKETS = 64  # each revoke has one of its own
_LONGEST_SLEEP = 1.0
_NO_WAIT = 1e-6  # what is shorter might not move the clock
_MOST_REMAINING = 1_000_000_000  # a number of any length may be announced, and no float holds all of those
_RESERVE = 3  # of requests, for other programs and for what is known too late
_HOLD = 0.2
_ENOUGH_TO_MEASURE = 4
_FIRST_GUESS = 10.0
_LEAST = 1.0  # slower ones are met by the pauses after a 429
_AFTER_A_REFUSAL = 0.95
_AT_LEAST_KEPT = 0.8
_GENTLE_GROWTH = 0.0004  # back at the limit after a hundred requests, refused after two hundred
_FAST_GROWTH = 0.02
_SEARCHING_GROWTH = 0.25
_GROWS_FASTER_AFTER = 200
_REST = 1.0  # seconds without a request, after which nothing is measured by what passed before
_SLACK = 0.05  # seconds of lateness that are made up for


@dataclass(frozen=True, slots=True)
class Notice:
    """What one answer tells of the limiter. `rate` is per second; it and `remaining` are None unless announced."""

    is_refusal: bool
    rate: float | None = None
    remaining: int | None = None


def read_notice(status: int, headers: Mapping[str, str]) -> Notice:
    """Return what an answer tells. `RateLimit-Limit` is left alone: other gateways mean a minute or an hour by it."""
    is_refusal = status == 429
    try:
        rate = float(headers.get("x-rate-limit-limit", ""))
        remaining = int(headers.get("ratelimit-remaining", ""))
    except ValueError:
        return Notice(is_refusal)
    is_usable = 0 < rate < math.inf and 0 <= remaining <= _MOST_REMAINING
    return Notice(is_refusal, rate, remaining) if is_usable else Notice(is_refusal)


class _Announced:
    """The limiter's own count, from below: what it said last, less what it may have counted since."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._tokens = 0.0
        self._burst = 0.0  # the most that was ever seen to be there
        self._at = 0.0
        self._answers = 0

    def due(self, now: float, ahead: int) -> float:
        """Return in how many seconds a request may go when `ahead` others go before it."""
        if self._rate is None:
            return 0.0
        self._refill(now)
        return (1 + ahead + self._reserve - self._tokens) / self._rate

    def send(self, now: float) -> None:
        """Count a request."""
        self._refill(now)
        self._tokens -= 1

    def hear(self, notice: Notice, uncounted: int, now: float) -> None:
        """Correct the count; of the other requests, at most `uncounted` were not in it yet."""
        if notice.rate is None or notice.remaining is None:
            return
        self._rate = notice.rate
        self._answers += 1
        self._burst = max(self._burst, notice.remaining + 1.0)
        self._refill(now)
        self._tokens = min(max(self._tokens, notice.remaining - uncounted), notice.remaining)

    @property
    def _reserve(self) -> int:
        """Whoever asks much leaves something to those who ask little."""
        return min(_RESERVE, int(self._burst) // 8, self._answers // 8)

    def _refill(self, now: float) -> None:
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class _Learned:
    """The rate of a limiter that says nothing: between two refusals just as much passed as it lets through."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._tokens = 0.0
        self._at = 0.0
        self._sent_at = -math.inf
        self._since: float | None = None  # when the count of what passed began; None: it would say too little
        self._passed = 0
        self._held_until = 0.0
        self._growth = 0.0  # with each request that passes
        self._is_measured = False
        self._is_felt = False  # requests wait for it

    def due(self, now: float, ahead: int) -> float:
        """Return in how many seconds a request may go when `ahead` others go before it."""
        if self._rate is None:
            return 0.0
        self._refill(now)
        return max(self._held_until - now, 0.0) + (1 + ahead - self._tokens) / self._rate

    def send(self, now: float) -> None:
        """Count a request."""
        if now - self._sent_at > _REST + 2 / (self._rate or math.inf):
            self._since = now if self._rate is None else None
            self._passed = 0
        self._sent_at = now
        self._refill(now)
        self._is_felt = self._tokens < self._most
        self._tokens -= 1

    def hear(self, notice: Notice, sent_at: float, now: float) -> None:
        """Take in an answer to a request."""
        if self._since is not None and sent_at < self._since:
            return  # one of the same crowd as the last refusal
        if notice.is_refusal and notice.rate is None:
            self._slow_down(now, now - sent_at)
        elif not notice.is_refusal:
            self._passed += 1
            self._grow()

    def _grow(self) -> None:
        if self._rate is not None and self._is_felt:
            faster = 1 + (self._passed / _GROWS_FASTER_AFTER) ** 2
            self._rate *= 1 + min(self._growth * faster, max(self._growth, _FAST_GROWTH))

    def _slow_down(self, now: float, latency: float) -> None:
        if self._rate is not None and self._since is None:
            self._rate *= _AFTER_A_REFUSAL
        elif self._since is None or self._passed < _ENOUGH_TO_MEASURE or now <= self._since:
            self._halve()
        elif self._rate is None:
            self._begin(now, self._passed / (now - self._since), latency)
        else:
            self._measure(self._rate, self._passed / (now - self._since))
        self._tokens = 0.0
        self._at = self._since = now
        self._passed = 0

    def _begin(self, now: float, rate: float, latency: float) -> None:
        """What passed so far was the burst too, so the limit is below it. Go on with one request at a time."""
        self._rate = min(rate / 2, 1 / max(latency, 1e-3))
        self._growth = _FAST_GROWTH
        self._held_until = now + _HOLD

    def _halve(self) -> None:
        self._rate = max((self._rate or _FIRST_GUESS) / 2, _LEAST)
        self._growth = _SEARCHING_GROWTH
        self._is_measured = False

    def _measure(self, rate: float, passed: float) -> None:
        """Take what passed for the limit. Where little fits into the bucket, some of that ran over: not too low."""
        self._rate = max(_AFTER_A_REFUSAL * passed, _AT_LEAST_KEPT * rate if self._is_measured else 0.0)
        doubt = max(0.05 / self._passed, self._growth / 8)  # it is known well where much passed at a steady rate
        self._growth = min(max(_GENTLE_GROWTH, doubt), _FAST_GROWTH)
        self._is_measured = True

    def _refill(self, now: float) -> None:
        if self._rate is not None:
            begin = max(self._at, min(self._held_until, now))
            self._tokens = min(self._most, self._tokens + (now - begin) * self._rate)
        self._at = now

    @property
    def _most(self) -> float:
        return max(2.0, (self._rate or 0.0) * _SLACK)


class _Bucket:
    """What is known of one bucket of the limiter, and who waits for it."""

    def __init__(self) -> None:
        self.waiting: list[object] = []
        self._announced = _Announced()
        self._learned = _Learned()
        self._sent = 0
        self._settled = 0

    def due(self, now: float, ahead: int) -> float:
        return max(self._announced.due(now, ahead), self._learned.due(now, ahead))

    def send(self, now: float) -> Turn:
        self._announced.send(now)
        self._learned.send(now)
        self._sent += 1
        return Turn(self, now, self._settled)

    def settle(self, turn: Turn, notice: Notice | None, now: float) -> None:
        self._settled += 1
        if notice is not None:
            self._announced.hear(notice, self._sent - turn.settled_before - 1, now)
            self._learned.hear(notice, turn.at, now)


@dataclass(frozen=True, slots=True)
class Turn:
    """One request that may go now."""

    bucket: _Bucket
    at: float
    settled_before: int


class Pacer:
    """Gives requests their turns, to any number of threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._buckets: dict[str, _Bucket] = {}

    def take(self, path: str, give_up_at: float) -> Turn | None:
        """Wait for the turn of a request; None where it did not come in time. Each turn must be settled.

        It waits even where it is known to come too late: a bulk would else fail all of its work in a moment.
        """
        with self._queued(path) as (bucket, place):
            while True:
                with self._lock:
                    now = self._clock.monotonic()
                    wait = bucket.due(now, bucket.waiting.index(place))
                    if wait <= _NO_WAIT:
                        bucket.waiting.remove(place)
                        return bucket.send(now)
                if now >= give_up_at:
                    return None
                self._clock.sleep(min(wait, give_up_at - now, _LONGEST_SLEEP))

    def settle(self, turn: Turn, notice: Notice | None) -> None:
        """Learn from what came back, None where nothing did."""
        with self._lock:
            turn.bucket.settle(turn, notice, self._clock.monotonic())

    @contextmanager
    def _queued(self, path: str) -> Iterator[tuple[_Bucket, object]]:
        place = object()
        with self._lock:
            bucket = self._bucket(path)
            bucket.waiting.append(place)
        try:
            yield bucket, place
        finally:
            with self._lock:
                if place in bucket.waiting:
                    bucket.waiting.remove(place)

    def _bucket(self, path: str) -> _Bucket:
        bucket = self._buckets.pop(path, None) or _Bucket()
        self._buckets[path] = bucket  # the latest one is the last one
        if len(self._buckets) > _REMEMBERED_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return bucket
