"""Whether an old key may be revoked: one table, as a pure function.

A row of the list says that a successor was *made*, never that it works: so an old key goes only on the word of the
journal here, or of a proof.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from blnkctl.domain.keys import ApiKey
from blnkctl.domain.successions import Succession


class Verdict(Enum):
    """What is done about the old key of a rotation."""

    REVOKE = "it is due"
    PROVE = "it is due if the successor's secret is here and works"
    STAGED = "it is not due"
    PENDING = "what was asked for is not so yet"
    OPEN = "the rotation has not come to its end"


@dataclass(frozen=True, slots=True)
class DrainRule:
    """What must be so before an old key may go, beside its time: nothing, its successor's age, or its use."""

    older_than: timedelta | None = None
    when_used: bool = False
    quiet_for: timedelta = timedelta(days=1)

    def __bool__(self) -> bool:
        return self.older_than is not None or self.when_used

    def unmet(self, old: ApiKey, new: ApiKey, promoted_at: datetime, now: datetime) -> str | None:
        """Say what is not so yet. `last_used_at` proves use, never disuse: the new key's use is what counts."""
        if self.older_than is not None and now - new.created_at < self.older_than:
            return "it is not older than that"
        if self.when_used and (new.last_used_at is None or new.last_used_at <= promoted_at):
            return "it was not seen in use since"
        if self.when_used and old.last_used_at is not None and old.last_used_at >= now - self.quiet_for:
            return "the old key was seen in use lately"
        return None


def judge(old: ApiKey, new: ApiKey, succession: Succession | None, rule: DrainRule, now: datetime) -> Verdict:
    """Return the verdict for a key and its live successor; `succession` is what the journal here says of both."""
    if succession is not None:
        return _judge_ours(old, new, succession, rule, now)
    if not rule:
        return Verdict.STAGED
    if rule.unmet(old, new, new.created_at, now) is not None:
        return Verdict.PENDING
    return Verdict.PROVE if new.last_used_at is None else Verdict.REVOKE


def _judge_ours(old: ApiKey, new: ApiKey, succession: Succession, rule: DrainRule, now: datetime) -> Verdict:
    promoted_at, due = succession.promoted_at, succession.due
    if succession.is_open or promoted_at is None:
        return Verdict.OPEN
    if due is None or due > now:
        return Verdict.STAGED
    return Verdict.REVOKE if rule.unmet(old, new, promoted_at, now) is None else Verdict.STAGED
