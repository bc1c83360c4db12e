"""Which Core versions there are, and what changed with which tag. Knows no HTTP and no storage."""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int, int]

OLDEST = "0.10.1"
NEWEST = "0.15.2"

_FORM = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.ASCII)


def parse_version(text: str) -> Version:
    """Read ``0.13.2`` or ``v0.13.2``; raise ValueError for anything else."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a Core version: write it like {NEWEST}")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def emulated_version(text: str) -> tuple[str, str | None]:
    """Return the version to behave as, and a note where that is not the one asked for.

    Raise ValueError for nonsense and for a version that had no API keys yet.
    """
    asked = parse_version(text)
    name = ".".join(map(str, asked))
    if asked < parse_version(OLDEST):
        raise ValueError(f"Core {name} had no API keys: the oldest version that can be emulated is {OLDEST}")
    if asked > parse_version(NEWEST):
        return NEWEST, f"Core {name} is newer than known; behaving as {NEWEST}"
    return name, None


@dataclass(frozen=True)
class Behaviour:
    """What one version does differently. Each threshold is the first tag that has the change."""

    version: Version

    @property
    def scheme(self) -> str:
        """How a new key is stored, and the only way a key is looked up."""
        if self.version < (0, 12, 0):
            return "plaintext"
        return "sha256" if self.version < (0, 13, 2) else "bcrypt"

    @property
    def reads_owner_from_query(self) -> bool:
        """Before, the owner was read from a context value that nothing sets: always 401."""
        return self.version >= (0, 12, 0)

    @property
    def caches_keys(self) -> bool:
        return self.version >= (0, 12, 0)

    @property
    def health_skips_authentication(self) -> bool:
        return self.version >= (0, 10, 4)

    @property
    def metrics_skips_authentication(self) -> bool:
        return self.version >= (0, 14, 0)

    @property
    def records_use(self) -> bool:
        """Before, the update compared the id with the wrong column and failed silently."""
        return self.version >= (0, 11, 3)

    @property
    def sends_security_headers(self) -> bool:
        return self.version >= (0, 13, 0)

    @property
    def default_limit(self) -> tuple[float, int] | None:
        """Requests per second and burst of a server whose configuration names no limit."""
        if self.version < (0, 13, 0):
            return None
        return (500.0, 2_000) if self.version < (0, 13, 2) else (5_000_000.0, 10_000_000)

    @property
    def binds_keys_to_owners(self) -> bool:
        """A scoped key manages only its owner's keys, and hooks need the master key."""
        return self.version >= (0, 14, 3)

    @property
    def details_errors(self) -> bool:
        return self.version >= (0, 15, 0)

    @property
    def body_limit(self) -> int | None:
        """Octets of a request body that are read."""
        return 5 * 1024 * 1024 if self.version >= (0, 15, 0) else None
