"""How a command names keys: one KEY word, or selectors that combine with *and*."""

import re
from dataclasses import dataclass
from datetime import datetime

from blnkctl.domain.keys import ID_PREFIX, ApiKey, KeyStatus
from blnkctl.domain.secret import refuse_secret_word

_BARE_PREFIX = re.compile(r"[0-9a-f]{6,}[0-9a-f-]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IdPrefix:
    """An id or a unique prefix of one."""

    prefix: str

    def fits(self, id_: str) -> bool:
        """Tell whether an id begins like this."""
        return id_.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class FullName:
    """`OWNER/NAME`, compared as a whole string: owners and names may hold `/`."""

    text: str

    def fits(self, owner: str, name: str) -> bool:
        """Tell whether this pair is the one meant."""
        return f"{owner}/{name}" == self.text

    def possible_owners(self) -> list[str]:
        """Return every owner that the text can begin with."""
        parts = self.text.split("/")
        return ["/".join(parts[:count]) for count in range(1, len(parts))]


KeyWord = IdPrefix | FullName


def parse_key_word(text: str) -> KeyWord:
    """Read a KEY: `api_key_…` or six or more hexadecimal digits begin an id, anything else is `OWNER/NAME`."""
    refuse_secret_word(text)
    if text.startswith(ID_PREFIX):
        return IdPrefix(text)
    if _BARE_PREFIX.fullmatch(text):
        return IdPrefix(ID_PREFIX + text.lower())
    return FullName(text)


@dataclass(frozen=True, slots=True)
class Selection:
    """Selectors of a command. `owners` None means: every owner known here.

    `expiring_before` never selects what has expired.
    """

    owners: tuple[str, ...] | None = None
    statuses: frozenset[KeyStatus] = frozenset()
    name_glob: str | None = None
    expiring_before: datetime | None = None

    def fits(self, key: ApiKey, status: KeyStatus) -> bool:
        """Tell whether a key of a selected owner is selected."""
        if self.statuses and status not in self.statuses:
            return False
        if self.expiring_before is not None and (
            status is KeyStatus.EXPIRED or key.expires_at > self.expiring_before
        ):
            return False
        return self.name_glob is None or _is_like(key.name, self.name_glob)


def _is_like(name: str, glob: str) -> bool:
    from fnmatch import fnmatchcase  # here, as few commands need it and every list would pay for it

    return fnmatchcase(name, glob)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many owners there are, which could not be listed, and how many were asked."""

    owners: int
    failed: tuple[str, ...]
    asked: int

    @property
    def is_complete(self) -> bool:
        """Whether every owner was listed."""
        return not self.failed and self.asked == self.owners
