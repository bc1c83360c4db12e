"""How keys are stored, accepted and refused, version by version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sandbox.sandbox_client import ACCEPTED, ENDED, UNKNOWN, Client, as_json

GENERATIONS = ("0.11.6", "0.12.0", "0.13.2")


def stored_by(core: str, tmp_path: Path) -> str:
    client = Client(core, data=tmp_path / "rows")
    client.key()
    client.emulator.close()
    reader = Client("0.15.2", data=tmp_path / "rows")
    (row,) = reader.listed()
    reader.emulator.close()
    return str(row["key"])


@pytest.mark.parametrize(
    ("core", "shape"),
    [
        ("0.10.1", "[A-Za-z0-9_-]{43}="),
        ("0.11.6", "[A-Za-z0-9_-]{43}="),
        ("0.12.0", "[0-9a-f]{64}"),
        ("0.13.1", "[0-9a-f]{64}"),
        ("0.13.2", r"\$2a\$10\$[./A-Za-z0-9]{53}"),
        ("0.15.2", r"\$2a\$10\$[./A-Za-z0-9]{53}"),
    ],
)
def test_each_version_stores_keys_its_own_way(core: str, shape: str, tmp_path: Path) -> None:
    assert re.fullmatch(shape, stored_by(core, tmp_path))


@pytest.mark.parametrize("made_on", GENERATIONS)
@pytest.mark.parametrize("used_on", GENERATIONS)
def test_a_key_lives_only_on_the_generation_that_made_it(made_on: str, used_on: str, tmp_path: Path) -> None:
    maker = Client(made_on, data=tmp_path / "rows")
    key = maker.key()
    maker.emulator.close()
    user = Client(used_on, data=tmp_path / "rows")
    assert user.probe(key) == (ACCEPTED if made_on == used_on else UNKNOWN)
    user.emulator.close()


def test_a_key_made_before_0_12_is_dead_on_0_12_and_still_shows_in_plain_text(tmp_path: Path) -> None:
    maker = Client("0.11.6", data=tmp_path / "rows")
    key = maker.key()
    maker.emulator.close()
    user = Client("0.12.0", data=tmp_path / "rows")
    assert user.probe(key) == UNKNOWN
    assert user.listed()[0]["key"] == key
    user.emulator.close()


def test_before_0_12_a_stored_hash_authenticates_as_it_stands(tmp_path: Path) -> None:
    maker = Client("0.12.0", data=tmp_path / "rows")
    maker.key()
    stored = maker.listed()[0]["key"]
    maker.emulator.close()
    user = Client("0.11.6", data=tmp_path / "rows")
    assert user.probe(stored) == ACCEPTED
    user.emulator.close()


def test_real_bcrypt_hashes_are_made_and_verified_without_fast() -> None:
    client = Client(fast=False)
    key = client.key()
    assert client.listed()[0]["key"].startswith("$2a$10$")
    assert client.probe(key) == ACCEPTED
    assert client.probe(key[:-2] + "x=") == UNKNOWN
    assert client.probe(key + "x" * 60) == UNKNOWN


def test_a_fast_hash_is_verified_after_a_restart_with_or_without_fast(tmp_path: Path) -> None:
    maker = Client(data=tmp_path / "rows")
    key = maker.key()
    maker.emulator.close()
    for fast in (True, False):
        user = Client(data=tmp_path / "rows", fast=fast)
        assert user.probe(key) == ACCEPTED
        user.emulator.close()


def test_a_real_hash_is_verified_in_fast_mode(tmp_path: Path) -> None:
    maker = Client(data=tmp_path / "rows", fast=False)
    key = maker.key()
    maker.emulator.close()
    user = Client(data=tmp_path / "rows")
    assert user.probe(key) == ACCEPTED
    user.emulator.close()


def test_keys_that_share_their_first_sixteen_characters_are_told_apart() -> None:
    client = Client()
    key = client.key()
    assert client.probe(key[:16] + key[16:][::-1]) == UNKNOWN
    assert client.probe(key[:16]) == UNKNOWN


def test_a_key_ends_at_its_expiry_even_while_it_is_cached() -> None:
    client = Client()
    key = client.create("*:*", expires_at="2026-11-23T12:00:30+00:00")["key"]
    assert client.probe(key) == ACCEPTED
    client.time.pass_by(30)
    assert client.probe(key) == ENDED


def test_revoking_again_moves_the_time_and_keeps_one_row() -> None:
    client = Client()
    path = f"/api-keys/{client.create('*:*')['api_key_id']}?owner=alice"
    assert client.ask("DELETE", path).status == 204
    first = client.listed()[0]["revoked_at"]
    client.time.pass_by(5)
    assert client.ask("DELETE", path).status == 204
    (row,) = client.listed()
    assert row["is_revoked"]
    assert row["revoked_at"] > first


def test_the_newest_key_is_listed_first_and_an_unknown_owner_has_null() -> None:
    client = Client()
    for name in ("first", "second", "third"):
        client.create("*:*", name=name)
        client.time.pass_by(1)
    assert [row["name"] for row in client.listed()] == ["third", "second", "first"]
    assert client.ask("GET", "/api-keys?owner=nobody").body == b"null"


def test_created_at_has_nanoseconds_once_and_microseconds_in_the_list() -> None:
    client = Client()
    created = client.create("*:*", expires_at="2027-01-01T00:00:00.123456789+02:00")
    assert created["expires_at"] == "2027-01-01T00:00:00.123456789+02:00"
    assert re.fullmatch(r"2026-11-23T12:00:00(\.\d{1,9})?Z", created["created_at"])
    assert client.listed()[0]["expires_at"] == "2026-12-31T22:00:00.123457Z"


@pytest.mark.parametrize("core", ["0.11.3", "0.15.2"])
def test_every_second_use_is_recorded(core: str, tmp_path: Path) -> None:
    client = Client(core, data=tmp_path / "rows")
    key = client.key()
    assert last_use(client, tmp_path, core) == "0001-01-01T00:00:00Z"
    client.ask("GET", "/ledgers", key)
    assert last_use(client, tmp_path, core) == "0001-01-01T00:00:00Z"
    client.time.pass_by(60)
    client.ask("GET", "/ledgers", key)
    assert last_use(client, tmp_path, core) == "2026-11-23T12:01:00Z"
    client.emulator.close()


def last_use(client: Client, tmp_path: Path, core: str) -> str:
    """Read the list; before 0.12 there is none, so look through a later version's eyes."""
    if core >= "0.12":
        return str(client.listed()[0]["last_used_at"])
    copy = tmp_path / "copy"
    copy.write_bytes((tmp_path / "rows").read_bytes())
    reader = Client(data=copy)
    seen = reader.listed()[0]["last_used_at"]
    reader.emulator.close()
    return str(seen)


def test_before_0_11_3_no_use_is_recorded(tmp_path: Path) -> None:
    client = Client("0.11.2", data=tmp_path / "rows")
    key = client.key()
    for _ in range(4):
        assert client.ask("GET", "/ledgers", key).status == 200
    assert last_use(client, tmp_path, "0.11.2") == "0001-01-01T00:00:00Z"
    client.emulator.close()


def test_a_refused_request_is_not_a_use() -> None:
    client = Client()
    key = client.key("ledgers:read")
    for _ in range(4):
        client.probe(key)
        client.ask("POST", "/ledgers", key)
    assert client.listed()[0]["last_used_at"] == "0001-01-01T00:00:00Z"


def test_a_scoped_post_is_stamped_with_its_key() -> None:
    client = Client()
    created = client.create("ledgers:write")
    answer = client.ask("POST", "/ledgers", created["key"], '{"name":"<main>","meta_data":{"z":1,"a":null}}')
    assert answer.status == 201
    assert as_json(answer)["meta_data"] == {"BLNK_GENERATED_BY": created["api_key_id"], "a": None, "z": 1}
    assert b"\\u003cmain\\u003e" in answer.body


def test_everything_that_was_handed_out_is_remembered() -> None:
    client = Client()
    keys = [client.key() for _ in range(3)]
    assert client.emulator.issued == keys
