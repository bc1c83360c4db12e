"""An export fills a sandbox with the rows it tells of, and one that is none fills nothing."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from blnkctl.sandbox.gotime import ZERO_MICROS, parse_timestamptz
from tests.sandbox.sandbox_client import UNKNOWN, Client

EXPORTED = Path(__file__).parents[1] / "exported"
HEADER = "api_key_id,owner,name,scopes,expires_at,created_at,last_used_at,revoked_at,storage_scheme"
GOOD = {
    "api_key_id": "api_key_1",
    "owner": "alice",
    "name": "n",
    "scopes": '["ledgers:read"]',
    "expires_at": "2031-05-06T07:08:09.123456Z",
    "created_at": "2026-11-23T12:00:00Z",
    "last_used_at": "",
    "revoked_at": "",
    "storage_scheme": "bcrypt",
}
SHAPES = {
    "plaintext": r"[A-Za-z0-9_-]{43}=",
    "sha256": r"[0-9a-f]{64}",
    "bcrypt": r"\$2a\$10\$[./A-Za-z0-9]{53}",
}


def line(**changed: str) -> str:
    """Return a row of an export, good but for what is changed."""
    fields = (GOOD | changed).values()
    return ",".join('"' + field.replace('"', '""') + '"' for field in fields) + "\n"


def export(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_bytes((header + "\n" + "".join(lines)).encode())
    return path


# --- what real servers exported -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upgraded.csv", "upgraded-new-york.csv"])
def test_a_sandbox_filled_from_a_real_export_lists_what_the_real_server_listed(name: str) -> None:
    client = Client(load_csv=EXPORTED / name)
    for owner, rows in json.loads((EXPORTED / "upgraded.json").read_text("utf-8")).items():
        listed = client.listed(quote(owner))
        assert [without_key(row) for row in listed] == [without_key(row) for row in rows]
        assert [shape(row["key"]) for row in listed] == [shape(row["key"]) for row in rows]
        assert not {row["key"] for row in listed} & {row["key"] for row in rows}


def without_key(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "key"}


def shape(stored: str) -> str:
    return next((scheme for scheme, form in SHAPES.items() if re.fullmatch(form, stored)), "unknown")


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [*SHAPES, "unknown"])
def test_a_row_has_a_stored_key_of_the_shape_of_its_scheme(scheme: str, tmp_path: Path) -> None:
    lines = [line(api_key_id=f"api_key_{number}", storage_scheme=scheme) for number in range(20)]
    listed = Client(load_csv=export(tmp_path / "e", *lines)).listed()
    assert {shape(row["key"]) for row in listed} == {scheme}
    assert len({row["key"] for row in listed}) == 20


@pytest.mark.parametrize(("core", "scheme"), [("0.12.0", "sha256"), ("0.15.2", "bcrypt"), ("0.15.2", "unknown")])
def test_what_is_listed_opens_nothing(core: str, scheme: str, tmp_path: Path) -> None:
    client = Client(core, load_csv=export(tmp_path / "e", line(storage_scheme=scheme)))
    assert client.probe(client.listed()[0]["key"]) == UNKNOWN


def test_columns_may_stand_in_any_order_and_a_mark_may_stand_before_them(tmp_path: Path) -> None:
    fields = {name: GOOD[name].replace('"', '""') for name in reversed(GOOD)}
    rows = "\r\n".join([",".join(fields), ",".join(f'"{field}"' for field in fields.values()), "", ""])
    (tmp_path / "e").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert [row["name"] for row in Client(load_csv=tmp_path / "e").listed()] == ["n"]


def test_an_export_of_no_keys_is_one(tmp_path: Path) -> None:
    client = Client(load_csv=export(tmp_path / "e"))
    assert client.emulator.notes == ("keys of the export: 0 loaded, 0 there already and kept as they are",)


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01 00:00:00+00", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.000001z", 1),
        ("1970-01-01 05:30:00.5+05:30", 500_000),
        ("1969-12-31 20:00:00-04", 0),
        ("0001-01-01 00:00:00+00", ZERO_MICROS),
        ("0001-12-31 19:03:58-04:56:02 BC", ZERO_MICROS),
        ("0001-01-01 00:19:32+00:19:32", ZERO_MICROS),
        ("10000-01-01 13:59:59.999999+14", parse_timestamptz("9999-12-31T23:59:59.999999Z")),
    ],
)
def test_a_time_is_read_as_postgresql_and_rfc_3339_write_it(text: str, micros: int) -> None:
    assert parse_timestamptz(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "never",
        "infinity",
        "2031-05-06",
        "2031-05-06 07:08:09",
        "2031-13-06 07:08:09Z",
        "2031-02-29 07:08:09Z",
        "2031-05-06 24:08:09Z",
        "2031-05-06 07:60:09Z",
        "2031-05-06 07:08:60Z",
        "2031-05-06 07:08:09+24",
        "2031-05-06 07:08:09+00:60",
        "2031-05-06 07:08:09.1234567890Z",
        " 2031-05-06 07:08:09Z",
        "2031-05-06 07:08:09Z\n",
        "٢٠٣١-05-06 07:08:09Z",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        parse_timestamptz(text)


# --- a data file beside it ------------------------------------------------------------------------


def test_rows_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    first = export(tmp_path / "first", line(), line(api_key_id="api_key_2", name="other"))
    client = Client(data=tmp_path / "rows", load_csv=first)
    client.ask("DELETE", "/api-keys/api_key_1?owner=alice")
    before = {row["api_key_id"]: row for row in client.listed()}
    client.emulator.close()
    second = export(tmp_path / "second", line(name="changed"), line(api_key_id="api_key_3"))
    client = Client("0.12.0", data=tmp_path / "rows", load_csv=second)
    after = {row["api_key_id"]: row for row in client.listed()}
    assert client.emulator.notes == ("keys of the export: 1 loaded, 1 there already and kept as they are",)
    assert before["api_key_1"]["is_revoked"]
    assert {name: after[name] for name in before} == before
    assert set(after) == {"api_key_1", "api_key_2", "api_key_3"}
    client.emulator.close()


def test_what_an_export_added_is_there_without_it(tmp_path: Path) -> None:
    client = Client(data=tmp_path / "rows", load_csv=export(tmp_path / "e", line()))
    listed = client.listed()
    client.emulator.close()
    client = Client(data=tmp_path / "rows")
    assert client.listed() == listed
    client.emulator.close()


def test_twenty_thousand_rows_are_loaded_in_seconds(tmp_path: Path) -> None:
    schemes = [*SHAPES, "unknown"]
    lines = [line(api_key_id=f"api_key_{n}", storage_scheme=schemes[n % 4]) for n in range(20_000)]
    source = export(tmp_path / "e", *lines)
    began = time.process_time()
    client = Client(data=tmp_path / "rows", load_csv=source)
    assert time.process_time() - began < 5
    assert len(client.listed()) == 20_000
    client.emulator.close()


# --- bad input ------------------------------------------------------------------------------------

LONG = "x" * 17
NOT_TEXT = "a text that PostgreSQL can hold"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"api_key_id": "key_1"}, "api_key_id is not the id of a key: 'key_1'"),
        ({"api_key_id": ""}, "api_key_id is not the id of a key: ''"),
        ({"api_key_id": "api_key_x/../y"}, "api_key_id is not the id of a key: 'api_key_x/../y'"),
        ({"api_key_id": LONG}, "api_key_id is not the id of a key: 'xxxxxxxxxxxxxxxx'…"),
        ({"owner": "a\0b"}, f"owner is not {NOT_TEXT}: 'a\\x00b'"),
        ({"name": "\x1b[31m\0"}, f"name is not {NOT_TEXT}: '\\x1b[31m\\x00'"),
        ({"scopes": ""}, "scopes is not a JSON array of texts: ''"),
        ({"scopes": "{ledgers:read}"}, "scopes is not a JSON array of texts: '{ledgers:read}'"),
        ({"scopes": '"ledgers:read"'}, "scopes is not a JSON array of texts"),
        ({"scopes": "[1]"}, "scopes is not a JSON array of texts: '[1]'"),
        ({"scopes": "[null]"}, "scopes is not a JSON array of texts: '[null]'"),
        ({"scopes": '["\\ud800"]'}, "scopes is not a JSON array of texts"),
        ({"scopes": '["\\u0000"]'}, "scopes is not a JSON array of texts"),
        ({"scopes": "[" * 100_000}, "scopes is not a JSON array of texts: '[[[[[[[[[[[[[[[['…"),
        ({"scopes": "[" + "1" * 5_000 + "]"}, "scopes is not a JSON array of texts: '[111111111111111'…"),
        ({"expires_at": ""}, "expires_at is not a time: ''"),
        ({"expires_at": "tomorrow"}, "expires_at is not a time: 'tomorrow'"),
        ({"created_at": "2026-02-30 00:00:00+00"}, "created_at is not a time: '2026-02-30 00:00'…"),
        ({"last_used_at": "never"}, "last_used_at is not a time: 'never'"),
        ({"revoked_at": "f"}, "revoked_at is not a time: 'f'"),
        ({"storage_scheme": "md5"}, "storage_scheme is not one of plaintext, sha256, bcrypt, unknown: 'md5'"),
        ({"storage_scheme": ""}, "storage_scheme is not one of plaintext, sha256, bcrypt, unknown: ''"),
        ({"name": "x" * 200_000}, "it is not CSV"),
        ({"name": "x" * (2 << 20)}, "it is longer than 1 MiB"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_line_is_named_by_its_number_and_its_field(
    changed: dict[str, str], problem: str, tmp_path: Path
) -> None:
    source = export(tmp_path / "e", line(api_key_id="api_key_0", name="two\nlines"), line(**changed), line())
    with pytest.raises(ValueError) as caught:
        Client(load_csv=source)
    assert str(caught.value).startswith(f"the export {source} cannot be read at line 4: {problem}")
    assert len(str(caught.value)) < len(str(source)) + 150


COLUMNS = HEADER.split(",")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", f"line 1: it is empty, and must name the columns {HEADER}"),
        (b"\xef\xbb\xbf", "line 1: it is empty"),
        (b"\n\n", "line 1: it is empty"),
        (line().encode(), "line 1: there is no column api_key_id, owner, name, scopes"),
        (",".join(COLUMNS[1:]).encode(), "line 1: there is no column api_key_id"),
        (",".join([*COLUMNS, "key"]).encode(), f"line 1: it has more columns than {HEADER}; leave out the others"),
        (",".join([*COLUMNS, "name"]).encode(), f"line 1: it has more columns than {HEADER}; leave out the others"),
        (HEADER.encode("utf-16"), "line 1: it is not UTF-8"),
        (f"{HEADER}\n{line(name='ü')}".encode("latin-1"), "line 2: it is not UTF-8"),
        (f"{HEADER}\n{line()}{line()}".encode(), "line 3: api_key_id is that of line 2 too"),
        (f"{HEADER}\n{line()[:-4]}".encode(), "line 2: it is not CSV"),
        (f"{HEADER}\napi_key_1,alice\n".encode(), "line 2: it has 2 fields, the header has 9"),
        (f"{HEADER}\n".encode() + line().encode()[:-1] + b",x\n", "line 2: it has 10 fields, the header has 9"),
        (f"{HEADER}\r{line()}".encode(), "line 1: it is not CSV"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_file_that_is_no_export_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        Client(data=tmp_path / "rows", load_csv=tmp_path / "e")
    assert f" cannot be read at {problem}" in str(caught.value)
    assert not (tmp_path / "rows").exists()


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        Client(load_csv=tmp_path)
    with pytest.raises(ValueError, match="cannot be read: No such file or directory"):
        Client(load_csv=tmp_path / "none")


def test_a_key_in_the_place_of_an_id_is_not_shown_whole(tmp_path: Path) -> None:
    key = "k" * 20 + "S" * 23 + "="
    with pytest.raises(ValueError, match="line 2") as caught:
        Client(load_csv=export(tmp_path / "e", line(api_key_id=key)))
    assert "SS" not in str(caught.value)
