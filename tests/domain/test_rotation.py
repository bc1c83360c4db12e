"""What a successor is asked for, and when an old key may go."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blnkctl.domain.errors import UsageError
from blnkctl.domain.finishing import DrainRule, Verdict, judge
from blnkctl.domain.keys import ApiKey, StorageScheme
from blnkctl.domain.marks import next_successor_mark, successor_mark, successor_marks
from blnkctl.domain.rotation import ScopeChange, oddities, same_lifetime
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OLD = ApiKey(
    id="api_key_old",
    name="billing",
    owner="acme",
    scopes=("ledgers:read", "balances:write"),
    expires_at=NOW + 30 * DAY,
    created_at=NOW - 60 * DAY,
    last_used_at=None,
    is_revoked=False,
    revoked_at=None,
    scheme=StorageScheme.BCRYPT,
)
NEW = replace(OLD, id="api_key_new", created_at=NOW - 2 * DAY, expires_at=NOW + 88 * DAY)
PROMOTED = Succession(
    server="https://ledger.example.com",
    old=OLD,
    kind=SuccessionKind.ROTATE,
    way=Way.STAGED,
    phase=SuccessionPhase.PROMOTED,
    scopes=OLD.scopes,
    expires_at=NEW.expires_at,
    started_at=NEW.created_at,
    new_id=NEW.id,
    promoted_at=NEW.created_at,
    due=NOW - DAY,
)

# --- scopes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "scopes"),
    [
        (ScopeChange(), OLD.scopes),
        (ScopeChange(replaced_by=("search:read",)), ("search:read",)),
        (ScopeChange(added=("search:read", "ledgers:read")), (*OLD.scopes, "search:read")),
        (ScopeChange(dropped=("ledgers:read",)), ("balances:write",)),
        (ScopeChange(added=("search:read",), dropped=OLD.scopes), ("search:read",)),
        (ScopeChange(added=("ledgers:read",), dropped=("ledgers:read",)), ("balances:write", "ledgers:read")),
    ],
)
def test_a_successor_gets_the_scopes_that_were_asked_for_in_their_order(
    change: ScopeChange, scopes: tuple[str, ...]
) -> None:
    assert change.of(OLD) == scopes


def test_scopes_that_nobody_changes_are_copied_byte_for_byte() -> None:
    odd = replace(OLD, scopes=("ledgers:read", "ledgers:read", " x", "*:*"))

    assert ScopeChange().of(odd) == odd.scopes


@pytest.mark.parametrize(
    ("key", "dropped", "code", "words"),
    [
        (OLD, ("search:read",), "scope_not_held", "has no scope search:read to drop. Nothing"),
        (replace(OLD, scopes=("ledgers:*",)), ("ledgers:read",), "scope_not_held", "it has that through ledgers:*"),
        (OLD, OLD.scopes, "no_scope", "would have no scope left"),
    ],
)
def test_what_cannot_be_dropped_is_told(key: ApiKey, dropped: tuple[str, ...], code: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        ScopeChange(dropped=dropped).of(key)

    assert (refused.value.code, refused.value.target) == (code, OLD.id)
    assert words in refused.value.message


def test_what_is_odd_is_told_and_what_is_not_is_not() -> None:
    assert oddities("billing", OLD.scopes) == []
    assert oddities(" ", ("ledger:read", "*:*", "*:*")) == [
        "the name ' ' is odd; it is copied as it is.",
        "ledger:read opens nothing; it is copied as it is.",
        "*:* is there more than once; it is copied as it is.",
    ]


# --- lifetime -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "expected"), [(90 * DAY, 90 * DAY), (365 * DAY, 365 * DAY), (4000 * DAY, 365 * DAY)]
)
def test_a_successor_lives_as_long_as_the_old_key_was_made_for_at_most_a_year(
    lifetime: timedelta, expected: timedelta
) -> None:
    mark = timedelta(microseconds=4711)
    key = replace(OLD, expires_at=OLD.created_at + lifetime + mark)

    assert same_lifetime(key, NOW + mark) == NOW + expected


@pytest.mark.parametrize("lifetime", [timedelta(), timedelta(microseconds=9), -DAY])
def test_a_lifetime_of_nothing_asks_for_an_expiry(lifetime: timedelta) -> None:
    with pytest.raises(UsageError, match="no time at all") as refused:
        same_lifetime(replace(OLD, expires_at=OLD.created_at + lifetime), NOW)

    assert "--expires" in str(refused.value.hint)


# --- marks --------------------------------------------------------------------------------------


def row(number: int, mark: int = 0, expires_at: datetime = NEW.expires_at) -> ApiKey:
    """Return a namesake that expires in that second."""
    return replace(NEW, id=f"api_key_{number}", expires_at=expires_at.replace(microsecond=mark), is_revoked=True)


def test_the_first_mark_is_taken_and_the_next_where_that_is_spent_in_the_same_second() -> None:
    spent = [row(number, successor_mark(OLD.id, number)) for number in range(4)]

    taken = [next_successor_mark(OLD.id, [OLD, *spent[:count]], NEW.expires_at) for count in range(5)]

    assert taken == [*(successor_mark(OLD.id, number) for number in range(4)), None]


def test_a_mark_that_was_spent_in_another_second_is_free() -> None:
    spent = [row(1, successor_mark(OLD.id, 0), NEW.expires_at + timedelta(seconds=1))]

    assert next_successor_mark(OLD.id, [OLD, *spent], NEW.expires_at) == successor_mark(OLD.id, 0)


def test_a_mark_that_could_be_another_rows_successors_is_not_free() -> None:
    number = next(n for n in range(10**7) if successor_mark(OLD.id, 0) in successor_marks(f"api_key_{n}"))

    assert next_successor_mark(OLD.id, [OLD, row(number)], NEW.expires_at) == successor_mark(OLD.id, 1)


# --- finishing ----------------------------------------------------------------------------------

USED = replace(NEW, last_used_at=NOW - timedelta(hours=1))
BUSY_OLD = replace(OLD, last_used_at=NOW - timedelta(hours=3))
AGED, YOUNG = DrainRule(older_than=DAY), DrainRule(older_than=7 * DAY)
WHEN_USED, QUIET = DrainRule(when_used=True), DrainRule(when_used=True, quiet_for=timedelta(hours=2))


@pytest.mark.parametrize(
    ("succession", "old", "new", "rule", "verdict"),
    [
        (PROMOTED, OLD, NEW, DrainRule(), Verdict.REVOKE),
        (replace(PROMOTED, due=NOW), OLD, NEW, DrainRule(), Verdict.REVOKE),
        (replace(PROMOTED, due=NOW + timedelta(microseconds=1)), OLD, NEW, DrainRule(), Verdict.STAGED),
        (replace(PROMOTED, due=NOW + DAY), OLD, USED, AGED, Verdict.STAGED),
        (replace(PROMOTED, due=None, phase=SuccessionPhase.DONE), OLD, NEW, AGED, Verdict.STAGED),
        *((replace(PROMOTED, phase=phase), OLD, USED, AGED, Verdict.OPEN) for phase in list(SuccessionPhase)[:3]),
        (replace(PROMOTED, promoted_at=None), OLD, NEW, DrainRule(), Verdict.OPEN),
        (PROMOTED, OLD, NEW, AGED, Verdict.REVOKE),
        (PROMOTED, OLD, NEW, YOUNG, Verdict.STAGED),
        (PROMOTED, OLD, NEW, WHEN_USED, Verdict.STAGED),
        (PROMOTED, OLD, USED, WHEN_USED, Verdict.REVOKE),
        (replace(PROMOTED, promoted_at=USED.last_used_at), OLD, USED, WHEN_USED, Verdict.STAGED),
        (PROMOTED, BUSY_OLD, USED, WHEN_USED, Verdict.STAGED),
        (PROMOTED, BUSY_OLD, USED, QUIET, Verdict.REVOKE),
        (None, OLD, NEW, DrainRule(), Verdict.STAGED),
        (None, OLD, USED, DrainRule(), Verdict.STAGED),
        (None, OLD, NEW, AGED, Verdict.PROVE),
        (None, OLD, USED, AGED, Verdict.REVOKE),
        (None, OLD, USED, YOUNG, Verdict.PENDING),
        (None, OLD, NEW, WHEN_USED, Verdict.PENDING),
        (None, OLD, USED, WHEN_USED, Verdict.REVOKE),
        (None, BUSY_OLD, USED, WHEN_USED, Verdict.PENDING),
    ],
)
def test_an_old_key_goes_only_on_the_word_of_the_journal_or_a_proof(
    succession: Succession | None, old: ApiKey, new: ApiKey, rule: DrainRule, verdict: Verdict
) -> None:
    assert judge(old, new, succession, rule, NOW) is verdict


@pytest.mark.parametrize(
    ("rule", "old", "new", "words"),
    [
        (YOUNG, OLD, NEW, "it is not older than that"),
        (WHEN_USED, OLD, NEW, "it was not seen in use since"),
        (WHEN_USED, BUSY_OLD, USED, "the old key was seen in use lately"),
        (QUIET, BUSY_OLD, USED, None),
    ],
)
def test_what_is_not_so_yet_is_told(rule: DrainRule, old: ApiKey, new: ApiKey, words: str | None) -> None:
    assert rule.unmet(old, new, new.created_at, NOW) == words
