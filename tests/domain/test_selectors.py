"""How a command names keys: what a KEY word means, and what selectors select."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme
from blnkctl.domain.selectors import Coverage, FullName, IdPrefix, Selection, parse_key_word

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("api_key_3caf2420-7f0c-4c5e-9d0a-0a0a0a0a0a0a", "api_key_3caf2420-7f0c-4c5e-9d0a-0a0a0a0a0a0a"),
        ("api_key_3c", "api_key_3c"),
        ("api_key_", "api_key_"),
        ("api_key_a/b", "api_key_a/b"),
        ("3caf24", "api_key_3caf24"),
        ("3caf2420-7f0c", "api_key_3caf2420-7f0c"),
        ("3CAF24", "api_key_3caf24"),
        ("decade", "api_key_decade"),
    ],
)
def test_a_word_that_begins_like_an_id_is_one(text: str, prefix: str) -> None:
    assert parse_key_word(text) == IdPrefix(prefix)


@pytest.mark.parametrize(
    "text",
    [
        "acme/billing",
        "a/b/c",
        "3caf2",
        "3caf2-",
        "xyz123",
        "",
        "/",
        "API_KEY_3caf24",
        "3caf24/ci",
        "３caf24",
        "3caf24\n",
    ],
)
def test_any_other_word_is_a_full_name(text: str) -> None:
    assert parse_key_word(text) == FullName(text)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_full_name_fits_its_owner_and_name_whatever_they_hold(owner: str, name: str) -> None:
    word = FullName(f"{owner}/{name}")
    assert word.fits(owner, name)
    assert owner in word.possible_owners()


def test_a_full_name_is_compared_as_a_whole_string() -> None:
    word = FullName("acme/eu/billing")
    assert word.fits("acme", "eu/billing")
    assert word.fits("acme/eu", "billing")
    assert not word.fits("acme", "billing")
    assert not word.fits("ACME", "eu/billing")
    assert word.possible_owners() == ["acme", "acme/eu"]


def test_a_word_without_a_slash_names_no_owner() -> None:
    assert FullName("billing").possible_owners() == []


def test_a_prefix_fits_the_ids_that_begin_with_it() -> None:
    word = parse_key_word("3caf24")
    assert word == IdPrefix("api_key_3caf24")
    assert IdPrefix("api_key_3caf24").fits("api_key_3caf2420-7f0c")
    assert not IdPrefix("api_key_3caf24").fits("api_key_3caf25")


def key(name: str) -> ApiKey:
    return ApiKey(
        id="api_key_x",
        name=name,
        owner="acme",
        scopes=(),
        expires_at=NOW + timedelta(days=1),
        created_at=NOW,
        last_used_at=None,
        is_revoked=False,
        revoked_at=None,
        scheme=StorageScheme.BCRYPT,
    )


@pytest.mark.parametrize(
    ("selection", "name", "status", "is_selected"),
    [
        (Selection(), "ci", KeyStatus.REVOKED, True),
        (Selection(statuses=frozenset({KeyStatus.ACTIVE})), "ci", KeyStatus.ACTIVE, True),
        (Selection(statuses=frozenset({KeyStatus.ACTIVE, KeyStatus.DEAD})), "ci", KeyStatus.EXPIRED, False),
        (Selection(name_glob="ci-*"), "ci-1", KeyStatus.ACTIVE, True),
        (Selection(name_glob="ci-*"), "CI-1", KeyStatus.ACTIVE, False),
        (Selection(name_glob="ci"), "ci-1", KeyStatus.ACTIVE, False),
        (Selection(name_glob="ci-?"), "ci-12", KeyStatus.ACTIVE, False),
        (Selection(name_glob="[[]prod] *"), "[prod] x", KeyStatus.ACTIVE, True),
        (Selection(name_glob="a*b"), "a/x/b", KeyStatus.ACTIVE, True),
        (Selection(statuses=frozenset({KeyStatus.ACTIVE}), name_glob="ci"), "ci", KeyStatus.EXPIRED, False),
        (Selection(statuses=frozenset({KeyStatus.ACTIVE}), name_glob="ci"), "ci", KeyStatus.ACTIVE, True),
    ],
)
def test_selectors_combine_with_and(selection: Selection, name: str, status: KeyStatus, is_selected: bool) -> None:
    assert selection.fits(key(name), status) is is_selected


def test_a_coverage_is_complete_when_every_owner_was_asked_and_none_failed() -> None:
    assert Coverage(2, (), 2).is_complete
    assert not Coverage(2, (), 1).is_complete
    assert not Coverage(2, ("acme",), 2).is_complete
