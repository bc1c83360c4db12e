"""What a key is: how it was stored, what it is good for now, and whether it is the one that was asked for."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import (
    LIVE,
    ApiKey,
    KeySpec,
    KeyStatus,
    StorageScheme,
    classify_stored_form,
    is_key_id,
    scheme_of,
    status_of,
)
from blnkctl.domain.routes import version_tuple

RECORDINGS = Path(__file__).parent.parent / "contract"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = ApiKey(
    id="api_key_0f0f0f0f-0000-4000-8000-000000000000",
    name="billing",
    owner="acme",
    scopes=("ledgers:read", "balances:write"),
    expires_at=NOW + timedelta(days=90, microseconds=4711),
    created_at=NOW - timedelta(days=1),
    last_used_at=None,
    is_revoked=False,
    revoked_at=None,
    scheme=StorageScheme.BCRYPT,
)
SPEC = KeySpec(KEY.name, KEY.owner, KEY.scopes, KEY.expires_at)


def generation_of(core: str) -> Generation:
    return [each for each in Generation if version_tuple(each.first) <= version_tuple(core)][-1]


def listed_rows() -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each row of each recorded list, with the version that answered."""
    for path in sorted(RECORDINGS.glob("*.json")):
        document = json.loads(path.read_text())
        for exchange in document["exchanges"]:
            request, response = exchange["request"], exchange["response"]
            if request["method"] == "GET" and response["body"].startswith('[{"api_key_id"'):
                for row in json.loads(response["body"]):
                    yield document["core"], row


def test_every_key_field_of_every_recording_is_classified() -> None:
    schemes = {(core, classify_stored_form(str(row["key"]))) for core, row in listed_rows()}
    assert StorageScheme.UNKNOWN not in {scheme for _, scheme in schemes}
    assert {scheme for _, scheme in schemes} == {
        StorageScheme.PLAINTEXT,
        StorageScheme.SHA256,
        StorageScheme.BCRYPT,
    }
    for core, _ in schemes:
        assert (core, scheme_of(generation_of(core))) in schemes


def test_no_recorded_row_was_stored_by_a_newer_version_than_the_one_that_listed_it() -> None:
    age = [StorageScheme.PLAINTEXT, StorageScheme.SHA256, StorageScheme.BCRYPT]
    for core, row in listed_rows():
        stored = classify_stored_form(str(row["key"]))
        assert age.index(stored) <= age.index(scheme_of(generation_of(core)))


def test_every_id_of_every_recording_is_one_of_blnks() -> None:
    ids = {str(row["api_key_id"]) for _, row in listed_rows()}
    assert len(ids) > 20
    assert all(is_key_id(id_) for id_ in ids)


@pytest.mark.parametrize(
    ("stored", "scheme"),
    [
        ("Hn6cCfd0vFf3iv_bxQz50kQpys24lov4u7IfMJS8opU=", StorageScheme.PLAINTEXT),
        ("0123456789abcdef" * 4, StorageScheme.SHA256),
        ("$2a$10$" + "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", StorageScheme.BCRYPT),
        ("$2b$12$" + "x" * 53, StorageScheme.BCRYPT),
        ("", StorageScheme.UNKNOWN),
        ("0123456789ABCDEF" * 4, StorageScheme.UNKNOWN),
        ("0123456789abcdef" * 4 + "\n", StorageScheme.UNKNOWN),
        ("0" * 63, StorageScheme.UNKNOWN),
        ("Hn6cCfd0vFf3iv+bxQz50kQpys24lov4u7IfMJS8opU=", StorageScheme.UNKNOWN),
        ("Hn6cCfd0vFf3iv_bxQz50kQpys24lov4u7IfMJS8opU", StorageScheme.UNKNOWN),
        ("$2a$10$" + "x" * 52, StorageScheme.UNKNOWN),
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA", StorageScheme.UNKNOWN),
    ],
)
def test_the_shape_of_the_key_field_tells_how_it_was_stored(stored: str, scheme: StorageScheme) -> None:
    assert classify_stored_form(stored) is scheme


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("api_key_0f0f0f0f-0000-4000-8000-000000000000", True),
        ("api_key_x", True),
        ("api_key_", False),
        ("api_key_../../etc", False),
        ("api_key_a/b", False),
        ("api_key_a?owner=x", False),
        ("api_key_a\n", False),
        ("api_key_é", False),
        ("API_KEY_a", False),
        ("key", False),
        ("api_key_" + "a" * 101, False),
    ],
)
def test_only_what_can_stand_in_a_path_and_a_file_name_is_an_id(text: str, is_id: bool) -> None:
    assert is_key_id(text) is is_id


def test_each_generation_accepts_one_scheme() -> None:
    assert [scheme_of(generation).value for generation in Generation] == [
        "plaintext",
        "sha256",
        "sha256",
        "bcrypt",
        "bcrypt",
        "bcrypt",
    ]


@pytest.mark.parametrize(
    ("is_revoked", "is_expired", "is_dead", "is_superseded"), list(product([True, False], repeat=4))
)
def test_the_status_is_the_first_that_fits(
    is_revoked: bool, is_expired: bool, is_dead: bool, is_superseded: bool
) -> None:
    key = replace(
        KEY,
        is_revoked=is_revoked,
        expires_at=NOW if is_expired else NOW + timedelta(microseconds=1),
        scheme=StorageScheme.SHA256 if is_dead else StorageScheme.BCRYPT,
    )
    order = ((is_revoked, "revoked"), (is_expired, "expired"), (is_dead, "dead"), (is_superseded, "superseded"))
    expected = next((name for fits, name in order if fits), "active")
    assert status_of(key, Generation.FROM_0_15, NOW, superseded=is_superseded) == expected


@pytest.mark.parametrize("generation", list(Generation))
def test_a_key_is_dead_where_its_scheme_is_not_accepted(generation: Generation) -> None:
    dead = [
        scheme
        for scheme in StorageScheme
        if status_of(replace(KEY, scheme=scheme), generation, NOW) is KeyStatus.DEAD
    ]
    assert dead == [
        scheme for scheme in StorageScheme if scheme not in (scheme_of(generation), StorageScheme.UNKNOWN)
    ]


def test_live_is_neither_revoked_nor_expired_nor_dead() -> None:
    assert {KeyStatus.ACTIVE, KeyStatus.SUPERSEDED} == LIVE


def test_a_listed_row_has_no_field_for_a_secret() -> None:
    assert {field.name for field in fields(ApiKey)} == {
        "id",
        "name",
        "owner",
        "scopes",
        "expires_at",
        "created_at",
        "last_used_at",
        "is_revoked",
        "revoked_at",
        "scheme",
    }


def test_a_row_matches_what_was_asked_for() -> None:
    assert SPEC.matches(KEY)
    assert SPEC.matches(replace(KEY, id="api_key_other", is_revoked=True, last_used_at=NOW))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Billing"},
        {"owner": "acme2"},
        {"scopes": ("balances:write", "ledgers:read")},
        {"scopes": ("ledgers:read",)},
        {"expires_at": KEY.expires_at + timedelta(microseconds=1)},
        {"expires_at": KEY.expires_at - timedelta(seconds=1)},
    ],
)
def test_a_row_that_differs_in_one_field_is_another_key(change: dict[str, object]) -> None:
    assert not SPEC.matches(replace(KEY, **change))  # type: ignore[arg-type]
