"""What harmless requests tell about a server and a key."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from blnkctl.domain.generations import Generation


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """What harmless requests told about a server. `rate_limit` is requests per second, None where not announced."""

    generation: Generation
    is_secure: bool
    clock_skew: timedelta | None = None
    rate_limit: float | None = None

    def time_there(self, here: datetime) -> datetime:
        """Return the server's time for a time here: whether a key has expired is for its clock to say."""
        return here + (self.clock_skew or timedelta())


class ProbeVerdict(Enum):
    """What one probe with a key told."""

    AUTHENTICATED = "authenticated"
    UNKNOWN_KEY = "Invalid API key"
    EXPIRED_OR_REVOKED = "API key is expired or revoked"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The verdict, and the server's words where it is undecided."""

    verdict: ProbeVerdict
    detail: str = ""

    @property
    def is_rejection(self) -> bool:
        """Whether this is one of Blnk's own refusals of the key."""
        return self.verdict in (ProbeVerdict.UNKNOWN_KEY, ProbeVerdict.EXPIRED_OR_REVOKED)
