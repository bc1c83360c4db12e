"""The mark: by which a key is found again, and by which one key is seen to succeed another."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.keys import ApiKey, StorageScheme
from blnkctl.domain.marks import (
    create_mark,
    find_late_twins,
    find_successors,
    successor_mark,
    successor_marks,
    with_mark,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXPIRY = NOW + timedelta(days=90)


def formula(old_id: str, attempt: int) -> int:
    """The formula of the contract, written out once more: 1 + the first 8 bytes, big-endian, mod 999999."""
    number = 0
    for byte in hashlib.sha256(f"{old_id}:{attempt}".encode()).digest()[:8]:
        number = number * 256 + byte
    return number % 999_999 + 1


def row(name: str, day: int, mark: int = 0, **changes: object) -> ApiKey:
    """Return a key made on a day, whose expiry carries a mark."""
    key = ApiKey(
        id=f"api_key_{name}",
        name="billing",
        owner="acme",
        scopes=("ledgers:read",),
        expires_at=with_mark(EXPIRY, mark),
        created_at=NOW - timedelta(days=100 - day),
        last_used_at=None,
        is_revoked=False,
        revoked_at=None,
        scheme=StorageScheme.BCRYPT,
    )
    return replace(key, **changes)  # type: ignore[arg-type]


def heir(name: str, old: ApiKey, day: int, attempt: int = 0, **changes: object) -> ApiKey:
    """Return a successor of a key."""
    return row(name, day, formula(old.id, attempt), **changes)


def successors(*rows: ApiKey) -> dict[str, str]:
    """Return who succeeds whom, by the short names."""
    found = find_successors(rows, NOW)
    return {old.removeprefix("api_key_"): new.removeprefix("api_key_") for old, new in found.items()}


REVOKED: dict[str, Any] = {"is_revoked": True, "revoked_at": NOW - timedelta(hours=1)}


@given(st.text(max_size=60), st.integers(0, 3))
def test_a_successors_mark_follows_the_published_formula(old_id: str, attempt: int) -> None:
    assert successor_mark(old_id, attempt) == formula(old_id, attempt)
    assert 1 <= successor_mark(old_id, attempt) <= 999_999


def test_marks_published_once_never_change() -> None:
    old_id = "api_key_3caf2420-7f0c-4c5e-9d0a-0a0a0a0a0a0a"
    digests = [hashlib.sha256(f"{old_id}:{attempt}".encode()).hexdigest()[:16] for attempt in range(4)]
    assert [successor_mark(old_id, attempt) for attempt in range(4)] == [
        1 + int(digest, 16) % 999_999 for digest in digests
    ]
    assert successor_marks(old_id) == {successor_mark(old_id, attempt) for attempt in range(4)}


@given(st.integers(1, 999_999))
def test_a_mark_is_the_expirys_sub_second_part(mark: int) -> None:
    marked = with_mark(EXPIRY.replace(microsecond=123), mark)
    assert marked.microsecond == mark
    assert marked.replace(microsecond=0) == EXPIRY


class Stubborn(Random):
    """Draws the numbers it is given, in turn."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(0)
        self._numbers = numbers

    def randint(self, a: int, b: int) -> int:
        number = self._numbers.pop(0)
        assert a <= number <= b
        return number


@given(st.lists(st.integers(0, 999_999), max_size=6))
def test_a_random_mark_keeps_clear_of_every_listed_mark_and_every_possible_successor(marks: list[int]) -> None:
    rows = [row(str(number), number, mark) for number, mark in enumerate(marks)]
    taken = {mark for mark in marks if mark} | {formula(each.id, attempt) for each in rows for attempt in range(4)}
    free = next(number for number in range(1, 999_999) if number not in taken)
    assert create_mark(rows, Stubborn([*sorted(taken), free])) == free


def test_a_random_mark_is_never_nothing_and_never_a_whole_second() -> None:
    drawn = {create_mark([], Random(seed)) for seed in range(200)}
    assert len(drawn) > 190
    assert all(1 <= mark <= 999_999 for mark in drawn)


@given(st.integers(0, 2**32))
def test_a_key_with_a_random_mark_succeeds_nobody(seed: int) -> None:
    rows = [row("a", 1), row("b", 2)]
    new = row("new", 3, create_mark(rows, Random(seed)))
    assert find_successors([*rows, new], NOW) == {}


@pytest.mark.parametrize("attempt", range(4))
def test_a_newer_key_with_the_mark_of_an_old_one_succeeds_it_at_any_attempt(attempt: int) -> None:
    old = row("old", 1)
    assert successors(old, heir("new", old, 2, attempt)) == {"old": "new"}


def test_a_fifth_attempt_is_no_mark() -> None:
    old = row("old", 1)
    assert successors(old, heir("new", old, 2, 4)) == {}


def test_an_older_key_or_one_of_the_same_moment_succeeds_nobody() -> None:
    old = row("old", 5)
    assert successors(old, heir("older", old, 4)) == {}
    one, other = row("one", 1, formula("api_key_other", 0)), row("other", 1, formula("api_key_one", 0))
    assert successors(one, other) == {}


def test_a_key_does_not_succeed_itself() -> None:
    assert successors(row("same", 1, formula("api_key_same", 0)), row("other", 2)) == {}


def test_a_key_of_another_name_succeeds_nobody() -> None:
    old = row("old", 1)
    assert successors(old, replace(heir("new", old, 2), name="other")) == {}


def test_the_chain_is_followed_to_a_live_key_through_revoked_and_expired_ones() -> None:
    first = row("first", 1)
    second = heir("second", first, 2, **REVOKED)
    third = heir("third", second, 3, expires_at=with_mark(NOW - timedelta(days=1), formula(second.id, 0)))
    fourth = heir("fourth", third, 4)
    assert successors(fourth, third, second, first) == {"first": "fourth", "second": "fourth", "third": "fourth"}


def test_without_a_live_key_along_the_chain_nothing_is_superseded() -> None:
    first = row("first", 1)
    second = heir("second", first, 2, **REVOKED)
    assert successors(first, second, heir("third", second, 3, **REVOKED)) == {}


def test_in_a_chain_of_live_keys_each_is_succeeded_by_the_next() -> None:
    first = row("first", 1)
    second = heir("second", first, 2)
    third = heir("third", second, 3)
    assert successors(third, second, first) == {"first": "second", "second": "third"}


def test_of_several_live_successors_the_earliest_counts() -> None:
    old = row("old", 1)
    assert successors(old, heir("late", old, 3, 1), heir("early", old, 2, 2)) == {"old": "early"}


def test_what_was_made_beside_the_successor_that_counts_is_a_late_twin_and_a_chain_is_none() -> None:
    old = row("old", 1)
    early, late = heir("early", old, 2, 1), heir("late", old, 3, 2)
    last = heir("last", early, 4)
    assert find_late_twins([old, early, late], NOW) == {late.id: early.id}
    assert find_late_twins([old, early, last], NOW) == {}
    assert find_late_twins([old, replace(early, is_revoked=True), late], NOW) == {}


def test_of_several_successors_of_one_moment_the_smallest_id_counts() -> None:
    old = row("old", 1)
    assert successors(old, heir("b", old, 2, 1), heir("a", old, 2, 0), heir("c", old, 2, 2)) == {"old": "a"}


def test_a_revoked_successor_gives_way_to_a_live_one() -> None:
    old = row("old", 1)
    assert successors(old, heir("early", old, 2, **REVOKED), heir("late", old, 3, 1)) == {"old": "late"}


def test_a_row_that_fits_two_old_keys_is_the_successor_of_neither() -> None:
    marks: dict[int, str] = {}
    for number in range(20_000):
        name = f"old-{number}"
        twin = marks.setdefault(formula(f"api_key_{name}", 0), name)
        if twin != name:
            break
    one, other = row(twin, 1), row(name, 2)
    both = row("new", 3, formula(one.id, 0))
    assert successors(one, both) == {twin: "new"}
    assert successors(one, other, both) == {}


marks_of = st.integers(-1, 4)


@given(st.lists(st.tuples(marks_of, st.booleans(), st.integers(0, 3)), min_size=1, max_size=8), st.randoms())
def test_whatever_the_list_every_successor_is_live_newer_and_independent_of_the_order(
    plans: list[tuple[int, bool, int]], shuffling: Random
) -> None:
    rows: list[ApiKey] = []
    for number, (parent, is_revoked, attempt) in enumerate(plans):
        mark = formula(rows[parent].id, attempt) if 0 <= parent < len(rows) else number + 1
        rows.append(row(f"key-{number}", number, mark, is_revoked=is_revoked))
    found = find_successors(rows, NOW)
    by_id = {each.id: each for each in rows}
    for old, new in found.items():
        assert not by_id[new].is_revoked
        assert by_id[new].created_at > by_id[old].created_at
    shuffling.shuffle(rows)
    assert find_successors(rows, NOW) == found
