"""The request limiter: a token bucket for each client address and path. Knows no keys.

The semantics are those of the library that Core uses, tollbooth 7.0.2.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MESSAGE = "You have reached maximum request limit."
# What passes between taking a token and counting the rest. With the default limit, five million a
# second, it is why a real server always announces a full bucket.
_COUNTING_SECONDS = 1e-6


@dataclass(frozen=True)
class RateLimit:
    """Requests per second, and how many at once."""

    per_second: float
    burst: int


def parse_rate_limit(text: str) -> RateLimit:
    """Read ``RPS[:BURST]``; the burst defaults to twice the rate, as on the server. Raise ValueError."""
    rate_text, _, burst_text = text.partition(":")
    try:
        rate = float(rate_text)
        burst = int(burst_text) if ":" in text else 2 * int(rate)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a rate limit: write requests per second, as in 5 or 5:8") from None
    if not 0 < rate < math.inf:
        raise ValueError(f"{rate_text} requests per second is no rate limit: write a number above zero")
    if burst < 1:
        raise ValueError(f"{text} lets no request through: give a burst of at least one, as in {rate_text}:1")
    return RateLimit(rate, burst)


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class Limiter:
    """The buckets of one server process."""

    def __init__(self, limit: RateLimit, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, client: str, path: str) -> int | None:
        """Take a token; return how many are left, or None where there was none."""
        with self._lock:
            bucket = self._refilled(client, path)
            if bucket.tokens < 1:
                return None
            bucket.tokens -= 1
            counted = bucket.tokens + self._limit.per_second * _COUNTING_SECONDS
            return int(min(self._limit.burst, counted))

    def headers(self, left: int | None) -> list[tuple[str, str]]:
        rate = self._limit.per_second
        return [
            ("X-Rate-Limit-Limit", f"{rate:.2f}"),
            ("X-Rate-Limit-Duration", "1"),
            ("Ratelimit-Limit", str(math.floor(rate + 0.5))),
            ("Ratelimit-Reset", "1"),
            ("Ratelimit-Remaining", str(left or 0)),
        ]

    def _refilled(self, client: str, path: str) -> _Bucket:
        now = self._monotonic()
        bucket = self._buckets.setdefault((client, path), _Bucket(float(self._limit.burst), now))
        added = (now - bucket.filled_at) * self._limit.per_second
        bucket.tokens = min(float(self._limit.burst), bucket.tokens + added)
        bucket.filled_at = now
        return bucket


def client_of(headers: Mapping[str, str], peer: str) -> str:
    """Return the address that is counted; what the client says of itself comes first."""
    forwarded = headers.get("x-forwarded-for", "")
    if forwarded:
        return forwarded.split(",")[-1].strip()
    return headers.get("x-real-ip", "") or peer
