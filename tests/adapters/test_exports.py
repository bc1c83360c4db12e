"""An export of a database is read as its server would have listed the keys, or refused by line and column."""

import io
import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blnkctl.adapters.blnk.answers import read_listed_key
from blnkctl.adapters.exports import read_export
from blnkctl.domain.errors import UsageError
from blnkctl.domain.exports import EXPORT_COLUMNS
from blnkctl.domain.keys import ApiKey, StorageScheme
from blnkctl.domain.times import BEGINNING, FAR_FUTURE, format_timestamp

EXPORTED = Path(__file__).parents[1] / "exported"
HEADER = ",".join(EXPORT_COLUMNS) + "\n"
KEY = ApiKey(
    id="api_key_1",
    name="billing",
    owner="acme",
    scopes=("ledgers:read",),
    expires_at=datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
    created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    last_used_at=None,
    is_revoked=False,
    revoked_at=None,
    scheme=StorageScheme.BCRYPT,
)
quickly = settings(max_examples=150, deadline=None, database=None)


def fields_of(key: ApiKey) -> dict[str, str]:
    """Return a key as the export writes it."""
    return {
        "api_key_id": key.id,
        "owner": key.owner,
        "name": key.name,
        "scopes": json.dumps(key.scopes),
        "expires_at": format_timestamp(key.expires_at),
        "created_at": format_timestamp(key.created_at),
        "last_used_at": format_timestamp(key.last_used_at) if key.last_used_at else "",
        "revoked_at": format_timestamp(key.revoked_at) if key.revoked_at else "",
        "storage_scheme": key.scheme,
    }


def written(rows: Iterable[dict[str, str]], columns: Sequence[str] = EXPORT_COLUMNS, end: str = "\n") -> str:
    """Return rows as PostgreSQL writes CSV; Python's own writer leaves a carriage return unquoted."""
    records = [list(columns), *([row[column] for column in columns] for row in rows)]
    return "".join(",".join(map(cell, record)) + end for record in records)


def cell(text: str) -> str:
    """Return a field, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def lines_of(text: str) -> Iterator[str]:
    """Return lines as a file opened with newline="" gives them."""
    return io.StringIO(text, newline="")


def line(**changed: str) -> str:
    """Return a row, good but for what is changed."""
    return written([fields_of(KEY) | changed]).removeprefix(HEADER)


def refusal(text: str) -> str:
    """Read an export to where it is refused, and return what is said."""
    with pytest.raises(UsageError) as refused:
        list(read_export(lines_of(text)))
    assert refused.value.code == "bad_export"
    assert refused.value.hint
    return refused.value.message


# --- what real servers exported -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["upgraded.csv", "upgraded-new-york.csv"])
def test_a_real_export_says_what_the_real_server_listed(name: str) -> None:
    answers = json.loads((EXPORTED / "upgraded.json").read_text("utf-8"))
    listed = {record["api_key_id"]: read_listed_key(record) for records in answers.values() for record in records}

    with (EXPORTED / name).open(encoding="utf-8", newline="") as lines:
        exported = {key.id: key for key in read_export(lines)}

    assert exported == listed
    assert {key.scheme for key in exported.values()} == set(StorageScheme) - {StorageScheme.UNKNOWN}


# --- round trip -----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    ['"', '""', ",", "\n", "\r", "\r\n", "\\.", " ", "\ufeff", "a\n\nb", "=1+1", "\u2028", "\x0b\x0c\x85"]
)
MOMENTS = st.datetimes(datetime(2, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))
KEYS = st.builds(
    ApiKey,
    id=st.from_regex(r"api_key_[A-Za-z0-9_-]{1,40}", fullmatch=True),
    name=TEXTS,
    owner=TEXTS,
    scopes=st.lists(TEXTS, max_size=3).map(tuple),
    expires_at=MOMENTS | st.just(FAR_FUTURE),
    created_at=MOMENTS,
    last_used_at=st.none() | MOMENTS,
    is_revoked=st.just(False),
    revoked_at=st.none(),
    scheme=st.sampled_from(StorageScheme),
)
REVOKED = st.builds(lambda key, at: replace(key, is_revoked=True, revoked_at=at), KEYS, MOMENTS)


@quickly
@given(
    keys=st.lists(KEYS | REVOKED, max_size=4),
    columns=st.permutations(EXPORT_COLUMNS),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_whatever_is_written_is_read_again(keys: list[ApiKey], columns: list[str], end: str, mark: str) -> None:
    text = mark + written(map(fields_of, keys), columns, end)

    assert list(read_export(lines_of(text))) == keys


@quickly
@given(moment=MOMENTS, east=st.integers(-15 * 60, 15 * 60), letter=st.sampled_from("T t"))
def test_a_time_of_any_zone_is_the_same_moment(moment: datetime, east: int, letter: str) -> None:
    local = moment.astimezone(timezone(timedelta(minutes=east))).isoformat(letter)
    shown = local.removesuffix(":00") if letter == " " else local  # PostgreSQL leaves out minutes that are none

    (key,) = read_export(lines_of(HEADER + line(expires_at=shown, revoked_at=shown)))

    assert (key.expires_at, key.revoked_at, key.is_revoked) == (moment, moment, True)


NEVER = ["0001-01-01 00:00:00+00", "0001-12-31 19:03:58-04:56:02 BC", "0001-01-01 00:19:32+00:19:32", ""]


@pytest.mark.parametrize("text", [*NEVER, "0001-01-01T00:00:00Z", "0000-12-31T23:00:00-01:00"])
def test_the_zero_time_of_any_zone_is_never(text: str) -> None:
    (key,) = read_export(lines_of(HEADER + line(last_used_at=text)))

    assert key.last_used_at is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0001-12-31 19:03:58-04:56:02 BC", BEGINNING),
        ("10000-01-01 13:59:59.999999+14", FAR_FUTURE),
        ("10000-01-01 13:59:59.5+14", FAR_FUTURE.replace(microsecond=500_000)),
        ("9999-12-31 23:59:59-12", FAR_FUTURE),
        ("10000-01-01T00:00:00.000000Z", FAR_FUTURE),
        ("294276-12-31 23:59:59.999999+00", FAR_FUTURE),
        ("12000-02-29 00:00:00+00", FAR_FUTURE),
        ("1880-01-01 00:00:00+00:19:32", datetime(1879, 12, 31, 23, 40, 28, tzinfo=UTC)),
    ],
)
def test_a_time_at_an_end_of_the_calendar_is_read(text: str, moment: datetime) -> None:
    (key,) = read_export(lines_of(HEADER + line(expires_at=text)))

    assert key.expires_at == moment


# --- a stream -------------------------------------------------------------------------------------


def test_keys_are_given_out_while_the_rest_is_still_on_its_way() -> None:
    def arriving() -> Iterator[str]:
        yield HEADER
        yield line()
        raise AssertionError("the third line was asked for before the first key was given out")

    assert next(read_export(arriving())) == KEY


def test_memory_does_not_grow_with_the_export() -> None:
    row = line()

    def endless(count: int) -> Iterator[str]:
        yield HEADER
        for number in range(count):
            yield row.replace("api_key_1", f"api_key_{number}")

    tracemalloc.start()
    try:
        assert sum(1 for _ in read_export(endless(5_000))) == 5_000
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000


def test_an_export_of_no_keys_is_one() -> None:
    assert list(read_export(lines_of(HEADER))) == []


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"api_key_id": "key_1"}, "api_key_id is not the id of a key: 'key_1'"),
        ({"api_key_id": "api_key_x/../y"}, "api_key_id is not the id of a key: 'api_key_x/../y'"),
        ({"owner": "a\0"}, "owner is not a text as databases hold it: 'a\\x00'"),
        ({"name": "\x1b[31m\ud800"}, "name is not a text as databases hold it: '\\x1b[31m\\ud800'"),
        ({"scopes": ""}, "scopes is not a JSON array of texts: ''"),
        ({"scopes": "{ledgers:read}"}, "scopes is not a JSON array of texts: '{ledgers:read}'"),
        ({"scopes": "[null]"}, "scopes is not a JSON array of texts: '[null]'"),
        ({"scopes": '["\\ud800"]'}, "scopes is not a JSON array of texts"),
        ({"scopes": "[" * 100_000}, "scopes is not a JSON array of texts: '[[[[[[[[[[[[[[[[…'"),
        ({"scopes": "[" + "1" * 5_000 + "]"}, "scopes is not a JSON array of texts: '[111111111111111…'"),
        ({"expires_at": ""}, "expires_at is not a time: ''"),
        ({"created_at": "2026-02-30 00:00:00+00"}, "created_at is not a time: '2026-02-30 00:00…'"),
        ({"created_at": "2026-02-20 00:00:00"}, "created_at is not a time"),
        ({"created_at": "2026-02-20 00:00:00+24"}, "created_at is not a time"),
        ({"created_at": "0001-01-01 00:00:00+24"}, "created_at is not a time"),
        ({"created_at": "infinity"}, "created_at is not a time: 'infinity'"),
        ({"last_used_at": "never"}, "last_used_at is not a time: 'never'"),
        ({"revoked_at": "f"}, "revoked_at is not a time: 'f'"),
        ({"storage_scheme": "md5"}, "storage_scheme is not one of plaintext, sha256, bcrypt, unknown: 'md5'"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_line_is_named_by_its_number_and_its_column(changed: dict[str, str], said: str) -> None:
    message = refusal(HEADER + line(name="two\nlines") + line(**changed) + line())

    assert message.startswith(f"Line 4 of the export is bad: {said}")
    assert len(message) < 150


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Line 1 of the export must name the columns, and has no api_key_id, owner, name"),
        ("\n\n", "Line 1 of the export must name the columns"),
        (line(), "Line 1 of the export must name the columns"),
        (HEADER.replace(",name", ""), "Line 1 of the export must name the columns, and has no name."),
        (HEADER.strip() + ",key\n", "Line 1 of the export names more columns than"),
        (HEADER.strip() + ",name\n", "Line 1 of the export names more columns than"),
        (HEADER + "api_key_1,acme\n", "Line 2 of the export has 2 fields, and the header 9."),
        (HEADER + line().strip() + ",x\n", "Line 2 of the export has 10 fields, and the header 9."),
        (HEADER + line() + '"open', "Line 3 of the export is not CSV."),
        (HEADER + line() + '"x"y,', "Line 3 of the export is not CSV."),
        (HEADER + line(name="x" * 200_000), "Line 2 of the export is not CSV."),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_no_export_is_refused(text: str, said: str) -> None:
    assert refusal(text).startswith(said)


def test_what_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys.csv").write_bytes((HEADER + line(name="ü")).encode("latin-1"))

    with (tmp_path / "keys.csv").open(encoding="utf-8", newline="") as lines, pytest.raises(UsageError) as refused:
        list(read_export(lines))

    assert refused.value.message == "Line 1 of the export or one soon after it is not UTF-8."


def test_a_key_in_the_place_of_an_id_is_not_shown_whole() -> None:
    assert "SS" not in refusal(HEADER + line(api_key_id="k" * 20 + "S" * 23 + "="))


PIECES = st.sampled_from(
    ["api_key_1", ",", '"', "\n", "\r", '"["', "2031-05-06 07:08:09+00", "bcrypt", "\0", "\ud800"]
)


@quickly
@given(junk=st.lists(st.text(max_size=5) | PIECES, max_size=30).map("".join), with_header=st.booleans())
def test_junk_is_read_or_refused_and_never_anything_else(junk: str, with_header: bool) -> None:
    with suppress(UsageError):
        assert all(isinstance(key, ApiKey) for key in read_export(lines_of(HEADER * with_header + junk)))
