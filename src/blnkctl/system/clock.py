"""The real clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Wall time in UTC, monotonic seconds, and waiting."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
