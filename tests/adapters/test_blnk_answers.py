"""The plain parser of Blnk's answers and a pydantic model: both accept or both reject, with equal values."""

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from blnkctl.adapters.blnk.answers import NotBlnks, difference, named_id, read_created_key, read_key_list
from blnkctl.domain.keys import ApiKey, KeySpec, StorageScheme, classify_stored_form
from blnkctl.domain.times import FAR_FUTURE

RECORDINGS = sorted((Path(__file__).parents[1] / "contract").glob("*.json"))
BEGINNING = datetime(2, 1, 1, tzinfo=UTC)
quickly = settings(max_examples=150, deadline=None, database=None)


# --- the reference --------------------------------------------------------------------------------


def _moment(text: str) -> datetime | None:
    parts = re.fullmatch(r"(\d{4})(-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?(?:[Zz]|([+-])(\d\d):(\d\d))", text, re.A)
    if parts is None:
        raise ValueError("no time stamp")
    never = int(parts[1]) <= 1
    second = datetime.fromisoformat(f"{'0001' if never else parts[1]}{parts[2].upper()}+00:00")
    if never:
        return None
    return _shifted(second, float(parts[3] or "0"), parts.group(4, 5, 6))


def _shifted(second: datetime, fraction: float, offset: tuple[Any, ...]) -> datetime:
    sign, hours, minutes = offset
    if sign and (int(hours) > 23 or int(minutes) > 59):
        raise ValueError("no offset")
    east = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        return second + timedelta(microseconds=round(fraction * 1_000_000)) - east
    except OverflowError:
        return FAR_FUTURE


Moment = Annotated[str, AfterValidator(_moment)]
Text = Annotated[str, AfterValidator(lambda text: text.encode().decode())]


def _plain(text: str) -> str:
    if re.fullmatch("[!-~]([ -~]*[!-~])?", text) is None:
        raise ValueError("no key")
    return text


class Row(BaseModel):
    """A row as Blnk lists it."""

    model_config = ConfigDict(strict=True)
    api_key_id: str = Field(pattern="^api_key_[A-Za-z0-9_-]{1,100}$")
    key: Any = None
    name: Text
    owner_id: Text
    scopes: list[Text] | None = None
    expires_at: Moment
    created_at: Moment
    last_used_at: Moment
    is_revoked: bool
    revoked_at: Moment | None = None

    def to_key(self, scheme: StorageScheme) -> ApiKey:
        """Return the domain's value."""
        times: dict[str, Any] = {name: getattr(self, name) for name in ("expires_at", "created_at")}
        return ApiKey(
            id=self.api_key_id,
            name=self.name,
            owner=self.owner_id,
            scopes=tuple(self.scopes or ()),
            last_used_at=self.last_used_at,  # type: ignore[arg-type]
            is_revoked=self.is_revoked,
            revoked_at=self.revoked_at,  # type: ignore[arg-type]
            scheme=scheme,
            **{name: value or BEGINNING for name, value in times.items()},
        )


class Created(Row):
    """The answer to a create."""

    key: Annotated[str, AfterValidator(_plain)]


_ROWS = TypeAdapter(list[Row] | None)


def expected_list(body: bytes) -> list[ApiKey] | None:
    """Return what the reference makes of a list, or None where it rejects it."""
    try:
        rows = _ROWS.validate_python(json.loads(body.decode()))
    except (ValueError, RecursionError):
        return None
    return [row.to_key(_scheme(row.key)) for row in rows or ()]


def _scheme(stored: object) -> StorageScheme:
    return classify_stored_form(stored) if isinstance(stored, str) else StorageScheme.UNKNOWN


def actual_list(*chunks: bytes) -> list[ApiKey] | None:
    """Return what the parser makes of a list, or None where it rejects it. Nothing but NotBlnks may be raised."""
    try:
        return list(read_key_list(chunks))
    except NotBlnks:
        return None


def expected_created(document: object) -> tuple[ApiKey, str] | None:
    """Return what the reference makes of a created key, or None where it rejects it."""
    try:
        created = Created.model_validate(document)
    except ValueError:
        return None
    return created.to_key(StorageScheme.UNKNOWN), created.key


def actual_created(document: object) -> tuple[ApiKey, str] | None:
    """Return what the parser makes of a created key, or None where it rejects it."""
    try:
        issued = read_created_key(document)
    except NotBlnks:
        return None
    return issued.key, issued.secret.reveal()


# --- recordings -----------------------------------------------------------------------------------


def recorded(path: Path, method: str, status: int) -> Iterator[str]:
    """Yield the bodies of a recording's answers about keys."""
    for exchange in json.loads(path.read_text())["exchanges"]:
        request, response = exchange["request"], exchange["response"]
        asked = request["path"].partition("?")[0]
        if (request["method"], asked, response["status"]) == (method, "/api-keys", status):
            yield response["body"]


LISTS = [body for path in RECORDINGS for body in recorded(path, "GET", 200)]
CREATED = [json.loads(body) for path in RECORDINGS for body in recorded(path, "POST", 201)]
RECORDS = [*CREATED, *(row for body in LISTS for row in json.loads(body) or ())]


def test_the_recordings_are_there() -> None:
    assert len(RECORDINGS) > 20
    assert len(LISTS) > 30
    assert len(CREATED) > 60
    assert len(RECORDS) > 400
    assert {_scheme(row["key"]) for body in LISTS for row in json.loads(body) or ()} >= {
        StorageScheme.PLAINTEXT,
        StorageScheme.SHA256,
        StorageScheme.BCRYPT,
    }


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_every_recorded_answer_is_read_as_the_reference_reads_it(path: Path) -> None:
    for body in recorded(path, "GET", 200):
        rows = actual_list(body.encode())
        assert rows is not None
        assert rows == expected_list(body.encode())
        assert len(rows) == body.count('"api_key_id"')
    for body in recorded(path, "POST", 201):
        created = actual_created(json.loads(body))
        assert created is not None
        assert created == expected_created(json.loads(body))


def test_what_is_read_holds_the_stored_key_nowhere() -> None:
    for body in LISTS:
        for record, row in zip(json.loads(body) or (), actual_list(body.encode()) or (), strict=True):
            shown = [repr(row), str(row), f"{row}", *(repr(getattr(row, at)) for at in dir(row) if at[0] != "_")]
            shown.append(repr(dataclasses.asdict(row)))
            assert not [text for text in shown if record["key"] in text]


def test_a_created_keys_secret_has_one_door() -> None:
    for document in CREATED:
        issued = read_created_key(document)
        shown = [repr(issued), str(issued), repr(issued.key), repr(issued.secret), f"{issued.secret}"]
        assert issued.secret.reveal() == document["key"]
        assert not [text for text in shown if document["key"] in text]


# --- junk -----------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["", "\x00", "\u2028"])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
FIELDS = st.sampled_from([*Row.model_fields, "unknown"])
TIMES = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
    st.sampled_from([0, 1, 2, 1970, 2026, 9999]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from("Tt "),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(["", ".5", ".1234565", ".999999999", ".000000500", ".0000015", ".1234567890", "."]),
    st.sampled_from(["Z", "z", "+02:00", "-23:59", "+23:59", "+24:00", "+00:60", "", "+0200"]),
)
ODD = st.sampled_from(
    ["api_key_", "api_key_x", "api_key_x\n", "API_KEY_x", "api_key_" + "y" * 101, " key", "two\nlines", "schlüssel"]
)
VALUES = JSON | TIMES | ODD


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Return a recorded record with some of its fields changed, gone or new."""
    record = dict(draw(st.sampled_from(RECORDS)))
    for field in draw(st.lists(FIELDS, max_size=3)):
        if draw(st.booleans()):
            record[field] = draw(VALUES)
        else:
            record.pop(field, None)
    return record


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Return a recorded list's bytes with a few of them changed, gone or new."""
    body = bytearray(draw(st.sampled_from(LISTS)).encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b",", b"]", b"[", b'"'])
        )
    return bytes(body[: draw(st.integers(0, len(body)) | st.just(len(body)))])


def written(document: object, *, ascii_only: bool) -> bytes:
    """Return JSON as bytes; half characters survive only as escapes."""
    return json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def chunks_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """Return a body in pieces."""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 3000), max_size=8)
JSON_BYTES = st.builds(lambda document, ascii_only: written(document, ascii_only=ascii_only), JSON, st.booleans())


@quickly
@given(body=st.binary() | JSON_BYTES | st.sampled_from([b"null", b" null ", b"[]", b"[ ]\n", b"[,]", b"[null]"]))
def test_junk_is_rejected_or_read_as_the_reference_does(body: bytes) -> None:
    assert actual_list(body) == expected_list(body)


@quickly
@given(records=st.lists(mutated(), max_size=3), ascii_only=st.booleans(), cuts=CUTS)
def test_mutated_lists_are_rejected_or_read_as_the_reference_does(
    records: list[object], ascii_only: bool, cuts: list[int]
) -> None:
    body = written(records, ascii_only=ascii_only)

    assert actual_list(*chunks_of(body, cuts)) == expected_list(body)


@quickly
@given(body=spoilt(), cuts=CUTS)
def test_spoilt_lists_are_rejected_or_read_as_the_reference_does(body: bytes, cuts: list[int]) -> None:
    assert actual_list(*chunks_of(body, cuts)) == expected_list(body)


@quickly
@given(document=mutated() | VALUES)
def test_mutated_creates_are_rejected_or_read_as_the_reference_does(document: object) -> None:
    assert actual_created(document) == expected_created(document)
    assert named_id(document) is None or isinstance(document, dict)


@quickly
@given(text=TIMES, field=st.sampled_from(["expires_at", "created_at", "last_used_at", "revoked_at"]))
def test_times_are_rejected_or_read_as_the_reference_does(text: str, field: str) -> None:
    body = written([{**RECORDS[0], field: text}], ascii_only=True)

    assert actual_list(body) == expected_list(body)


@pytest.mark.parametrize("field", ["name", "owner_id", "api_key_id", "scopes"])
def test_half_a_character_is_no_text(field: str) -> None:
    body = written([{**RECORDS[0], field: ["\ud800"] if field == "scopes" else "x\udfffx"}], ascii_only=True)

    assert actual_list(body) is None
    assert expected_list(body) is None


def test_a_list_may_arrive_byte_by_byte() -> None:
    body = LISTS[-1].encode()

    assert actual_list(*(bytes([byte]) for byte in body)) == expected_list(body)


@pytest.mark.parametrize(
    "tail", [b",", b"]", b" x", b"\xe2\x82", b"\xff", b"\x00"], ids=["comma", "bracket", "text", "half", "bad", "nul"]
)
@pytest.mark.parametrize("body", [b"[]", b"null", LISTS[-1].encode()], ids=["empty", "null", "full"])
def test_nothing_may_follow_a_list(body: bytes, tail: bytes) -> None:
    assert actual_list(body) is not None
    assert actual_list(body, tail) is None
    assert expected_list(body + tail) is None


@pytest.mark.parametrize("deep", ["[" * 100_000, '[{"key":' * 50_000, '{"a":' * 100_000])
def test_nesting_without_end_is_rejected(deep: str) -> None:
    assert actual_list(deep.encode()) is None


def test_rows_are_given_out_while_the_rest_is_still_on_its_way() -> None:
    record = json.dumps(RECORDS[-1])

    def arriving() -> Iterator[bytes]:
        yield f"[{record},".encode()
        raise AssertionError("the second piece was asked for before the first row was given out")

    assert next(read_key_list(arriving())).id == RECORDS[-1]["api_key_id"]


@pytest.mark.parametrize("field", [name for name in Row.model_fields if name not in ("key", "scopes", "revoked_at")])
def test_a_rejection_quotes_nothing_of_the_record(field: str) -> None:
    record = {**RECORDS[0], "key": "stored-form-of-the-key", field: ["secret-in-the-wrong-place"]}

    with pytest.raises(NotBlnks) as rejected:
        list(read_key_list([json.dumps([record]).encode()]))

    assert "stored-form" not in str(rejected.value)
    assert "secret-in-the-wrong-place" not in str(rejected.value)
    assert rejected.value.__context__ is None or rejected.value.__suppress_context__


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "x"}, "name"),
        ({"owner": "x"}, "owner"),
        ({"scopes": ("x:y",)}, "scopes"),
        ({"expires_at": datetime(2030, 1, 1, microsecond=1, tzinfo=UTC)}, "expires at"),
    ],
)
def test_a_created_key_that_differs_is_told_by_the_field_that_does(change: dict[str, Any], named: str) -> None:
    spec = KeySpec("billing", "acme", ("ledgers:read",), datetime(2030, 1, 1, tzinfo=UTC))
    key = Row.model_validate(RECORDS[0]).to_key(StorageScheme.UNKNOWN)
    same = dataclasses.replace(
        key, name="billing", owner="acme", scopes=("ledgers:read",), expires_at=spec.expires_at, is_revoked=False
    )

    assert difference(spec, same) is None
    assert named in (difference(spec, dataclasses.replace(same, **change)) or "")
    assert "revoked" in (difference(spec, dataclasses.replace(same, is_revoked=True)) or "")
