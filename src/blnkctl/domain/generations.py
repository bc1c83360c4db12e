"""The generations of Blnk Core that an administration tool must tell apart, and what each can do.

Source: servers of 0.10.8 to 0.15.2, asked (tests/contract/generation-*.json).
"""

import re
from enum import Enum

from blnkctl.domain.errors import UsageError

_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", re.ASCII)


class Generation(Enum):
    """A range of Core versions that behave alike towards keys. Ordered, oldest first."""

    BEFORE_0_12 = ("before 0.12", "0.11.6")
    FROM_0_12 = ("0.12", "0.12.0")
    FROM_0_13_0 = ("0.13.0 to 0.13.1", "0.13.1")
    FROM_0_13_2 = ("0.13.2 to 0.14.2", "0.13.2")
    FROM_0_14_3 = ("0.14.3 to 0.14.5", "0.14.5")
    FROM_0_15 = ("0.15 or newer", "0.15.2")

    def __init__(self, label: str, representative: str) -> None:
        self.label = label
        self.representative = representative

    @property
    def first(self) -> str:
        """The oldest Core version that is known to belong to it."""
        return "0.10.1" if self is Generation.BEFORE_0_12 else self.label.split()[0]

    @classmethod
    def of_version(cls, text: str) -> "Generation":
        """Return the generation of a Core version such as 0.13.2; what is newer than known behaves as the newest.

        Raises:
            UsageError: it is no version, or one that had no API keys yet.
        """
        version = _parse_version(text)
        fitting = [one for one in cls if _parse_version(one.first) <= version]
        if not fitting:
            raise UsageError(
                f"Core {text} had no API keys.", code="bad_version", hint="The first to have them: 0.10.1."
            )
        return fitting[-1]

    @property
    def order(self) -> int:
        """Position among the generations, oldest first."""
        return list(Generation).index(self)

    def is_at_least(self, other: "Generation") -> bool:
        """Tell whether this generation is `other` or newer."""
        return self.order >= other.order

    @property
    def can_list(self) -> bool:
        """Whether keys can be listed and revoked: before 0.12 both always answer 401."""
        return self is not Generation.BEFORE_0_12

    @property
    def read_equals_full_access(self) -> bool:
        """Whether `api-keys:read` shows every owner's keys (before 0.14.3)."""
        return not self.is_at_least(Generation.FROM_0_14_3)


def _parse_version(text: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no Core version.", code="bad_version", hint="Write it like 0.13.2.")
    return tuple(int(part or 0) for part in match.groups())
