"""What a successor is asked for: the scopes that were changed, and how long it lives. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from blnkctl.domain.errors import UsageError
from blnkctl.domain.keys import ApiKey
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.scopes import covers, is_known

LONGEST_LIFE = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ScopeChange:
    """What was typed about the scopes of the new key. Nothing typed: they are copied, byte for byte."""

    replaced_by: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.replaced_by or self.added or self.dropped)

    def of(self, key: ApiKey) -> tuple[str, ...]:
        """Return the scopes that a key's successor gets, in their order.

        Raises:
            UsageError: one to be dropped is not there, or none would be left.
        """
        if self.replaced_by:
            return self.replaced_by
        for scope in self.dropped:
            if scope not in key.scopes:
                raise _cannot_drop(scope, key)
        kept = tuple(scope for scope in key.scopes if scope not in self.dropped)
        scopes = (*kept, *(scope for scope in self.added if scope not in kept))
        if not scopes:
            raise UsageError(
                f"{key.id} would have no scope left; nothing was sent.",
                code="no_scope",
                hint="To end a key: blnkctl keys revoke",
                target=key.id,
            )
        return scopes


def _cannot_drop(scope: str, key: ApiKey) -> UsageError:
    wider = [held for held in key.scopes if covers(held, scope)]
    because = f"; it has that through {escape_unsafe(wider[0])}" if wider else ""
    return UsageError(
        f"{key.id} has no scope {scope} to drop{because}. Nothing was sent.",
        code="scope_not_held",
        hint=f"It has {escape_unsafe(', '.join(key.scopes))}. To name all that it shall have: --scope R:A,R:A…",
        target=key.id,
    )


def oddities(name: str, scopes: tuple[str, ...]) -> list[str]:
    """Say what is odd about what a successor inherits: it is copied as it is, byte for byte."""
    found = []
    if not name.strip() or escape_unsafe(name) != name:
        found.append(f"the name {escape_unsafe(name)!r} is odd; it is copied as it is.")
    unknown = [scope for scope in scopes if not is_known(scope)]
    if unknown:
        found.append(f"{escape_unsafe(', '.join(unknown))} opens nothing; it is copied as it is.")
    twice = [scope for scope in dict.fromkeys(scopes) if scopes.count(scope) > 1]
    if twice:
        found.append(f"{escape_unsafe(', '.join(twice))} is there more than once; it is copied as it is.")
    return found


def same_lifetime(key: ApiKey, now: datetime) -> datetime:
    """Return the expiry of a successor that lives as long as the old key was made for, at most a year.

    Raises:
        UsageError: it was made for no time at all.
    """
    lifetime = min(key.expires_at.replace(microsecond=0) - key.created_at.replace(microsecond=0), LONGEST_LIFE)
    if lifetime <= timedelta():
        raise UsageError(
            f"{key.id} was made to live no time at all; how long shall its successor? Nothing was sent.",
            code="no_lifetime",
            hint="Say it with --expires, such as --expires 90d.",
            target=key.id,
        )
    return (now + lifetime).replace(microsecond=0)
