"""Time stamps as Blnk writes them, and durations and dates as operators type them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.times import (
    FAR_FUTURE,
    add_duration,
    format_timestamp,
    parse_duration,
    parse_moment,
    parse_timestamp,
)
from blnkctl.sandbox import gotime

NOW = datetime(2026, 11, 23, 12, 30, 15, tzinfo=UTC)
FLAG = "--expires"

moments = st.datetimes(datetime(2, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-06-13T00:00:00Z", utc(2027, 6, 13)),
        ("2027-06-13t00:00:00z", utc(2027, 6, 13)),
        ("2027-06-13T01:02:03.4Z", utc(2027, 6, 13, 1, 2, 3, 400_000)),
        ("2027-06-13T01:02:03.000001Z", utc(2027, 6, 13, 1, 2, 3, 1)),
        ("2027-06-13T01:02:03.999999Z", utc(2027, 6, 13, 1, 2, 3, 999_999)),
        ("2027-06-13T01:02:03.123456789Z", utc(2027, 6, 13, 1, 2, 3, 123_457)),
        ("2027-06-13T01:02:03.9999996Z", utc(2027, 6, 13, 1, 2, 4)),
        ("2027-12-31T23:59:59.9999999Z", utc(2028, 1, 1)),
        ("2027-06-13T01:00:00+02:00", utc(2027, 6, 12, 23)),
        ("2027-06-13T01:00:00.5-11:30", utc(2027, 6, 13, 12, 30, 0, 500_000)),
        ("2028-02-29T00:00:00+00:00", utc(2028, 2, 29)),
        ("0002-01-01T00:00:00+23:59", utc(1, 12, 31, 0, 1)),
    ],
)
def test_a_time_stamp_of_any_offset_and_up_to_nine_digits_is_read_to_the_microsecond(
    text: str, moment: datetime
) -> None:
    assert parse_timestamp(text) == moment


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("0000005", 0), ("0000015", 2), ("1304085", 130_409), ("503961500", 503_961), ("000000499", 0)],
)
def test_a_fraction_is_rounded_as_postgresql_rounds_it_halves_included(text: str, microsecond: int) -> None:
    moment = parse_timestamp(f"2027-06-13T00:00:00.{text}Z")
    assert moment is not None
    assert moment.microsecond == microsecond


@given(nanos=st.integers(0, 999_999_999), digits=st.integers(1, 9))
def test_every_fraction_is_read_as_the_emulated_database_keeps_it(nanos: int, digits: int) -> None:
    text = f"2027-06-13T23:59:59.{f'{nanos:09d}'[:digits]}Z"
    kept = gotime.to_micros(gotime.parse(text.encode()))
    moment = parse_timestamp(text)
    assert moment is not None
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == kept


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00-05:00", "0000-12-31T23:00:00Z"],
)
def test_the_zero_time_of_go_is_never(text: str) -> None:
    assert parse_timestamp(text) is None


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59.9999999Z"])
def test_a_time_past_the_year_9999_is_the_far_future(text: str) -> None:
    assert parse_timestamp(text) == FAR_FUTURE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "never",
        "2027-06-13",
        "2027-06-13T00:00:00",
        "2027-06-13 00:00:00Z",
        "2027-06-13T00:00Z",
        "2027-06-13T00:00:00.Z",
        "2027-06-13T00:00:00.1234567890Z",
        "2027-06-13T00:00:00,5Z",
        "2027-02-29T00:00:00Z",
        "2027-13-01T00:00:00Z",
        "2027-06-31T00:00:00Z",
        "2027-06-13T24:00:00Z",
        "2027-06-13T00:60:00Z",
        "2027-06-13T00:00:60Z",
        "2027-06-13T00:00:00+24:00",
        "2027-06-13T00:00:00+01:60",
        "2027-06-13T00:00:00+0100",
        "2027-06-13T00:00:00ZZ",
        "2027-06-13T00:00:00Z\n",
        "٢٠٢٧-06-13T00:00:00Z",
        "12027-06-13T00:00:00Z",
        "-2027-06-13T00:00:00Z",
    ],
)
def test_what_is_no_time_stamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_timestamp(text)


@given(st.text(max_size=40))
def test_junk_is_refused_and_never_crashes(text: str) -> None:
    try:
        moment = parse_timestamp(text)
    except ValueError:
        return
    assert moment is None or moment.tzinfo is UTC


@given(moments)
def test_a_moment_written_and_read_again_is_the_same(moment: datetime) -> None:
    text = format_timestamp(moment)
    assert len(text) == len("2027-06-13T00:00:00.000000Z")
    assert parse_timestamp(text) == moment


@given(moments, offsets)
def test_a_moment_is_the_same_in_every_zone(moment: datetime, zone: timezone) -> None:
    local = moment.astimezone(zone)
    assert format_timestamp(local) == format_timestamp(moment)
    assert parse_timestamp(local.isoformat()) == moment


@given(moments, offsets)
def test_what_the_emulated_server_writes_is_read_back(moment: datetime, zone: timezone) -> None:
    minutes = zone.utcoffset(None) // timedelta(minutes=1)
    written = gotime.write(gotime.GoTime(gotime.from_datetime(moment).nanos, minutes * 60))
    assert parse_timestamp(written) == moment


def test_times_are_written_with_six_digits_and_a_z() -> None:
    assert format_timestamp(utc(2027, 6, 13)) == "2027-06-13T00:00:00.000000Z"
    assert format_timestamp(utc(33, 1, 2, 3, 4, 5, 6)) == "0033-01-02T03:04:05.000006Z"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("30s", utc(2026, 11, 23, 12, 30, 45)),
        ("15m", utc(2026, 11, 23, 12, 45, 15)),
        ("12h", utc(2026, 11, 24, 0, 30, 15)),
        ("90d", utc(2027, 2, 21, 12, 30, 15)),
        ("2w", utc(2026, 12, 7, 12, 30, 15)),
        ("6mo", utc(2027, 5, 23, 12, 30, 15)),
        ("1y", utc(2027, 11, 23, 12, 30, 15)),
        ("1y6mo", utc(2028, 5, 23, 12, 30, 15)),
        ("6mo1y", utc(2028, 5, 23, 12, 30, 15)),
        ("1mo1d1h1m1s", utc(2026, 12, 24, 13, 31, 16)),
        ("0d", utc(2026, 11, 23, 12, 30, 15)),
    ],
)
def test_a_duration_is_added(text: str, end: datetime) -> None:
    assert add_duration(NOW, text, flag=FLAG) == end


@pytest.mark.parametrize(
    ("start", "text", "end"),
    [
        (utc(2027, 1, 31), "1mo", utc(2027, 2, 28)),
        (utc(2028, 1, 31), "1mo", utc(2028, 2, 29)),
        (utc(2028, 2, 29), "1y", utc(2029, 2, 28)),
        (utc(2026, 12, 31), "2mo", utc(2027, 2, 28)),
        (utc(2026, 12, 1), "1mo", utc(2027, 1, 1)),
        (utc(2026, 1, 31), "1mo1d", utc(2026, 3, 1)),
        (utc(2026, 8, 31), "13mo", utc(2027, 9, 30)),
    ],
)
def test_months_and_years_are_those_of_the_calendar(start: datetime, text: str, end: datetime) -> None:
    assert add_duration(start, text, flag=FLAG) == end


@given(moments.filter(lambda moment: moment.year < 9900), st.integers(0, 1_100))
def test_a_number_of_months_later_it_is_that_month(moment: datetime, months: int) -> None:
    later = add_duration(moment, f"{months}mo", flag=FLAG)
    passed = (later.year - moment.year) * 12 + later.month - moment.month
    assert passed == months
    assert later.day == moment.day or (later + timedelta(days=1)).day == 1
    assert later.time() == moment.time()


@pytest.mark.parametrize("text", ["30m", "1y6m", "1h30m", "6m"])
def test_a_bare_m_is_refused_where_months_are_plausible(text: str) -> None:
    with pytest.raises(UsageError, match="minutes or months") as caught:
        add_duration(NOW, text, flag=FLAG, minutes=False)
    assert caught.value.code == "bad_time"
    assert "6mo" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "90",
        "90 d",
        "-1d",
        "+1d",
        "1.5h",
        "90D",
        "1d ",
        "1M",
        "1mon",
        "ninety days",
        "1d,1h",
        "١d",
        "d1",
        "9" * 40,
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no duration") as caught:
        add_duration(NOW, text, flag=FLAG)
    assert caught.value.hint is not None


@pytest.mark.parametrize("text", ["8000y", "99999999999999999999mo", f"{'9' * 30}y", f"{'9' * 30}s", "99999999d"])
def test_a_duration_past_the_year_9999_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="beyond the year 9999"):
        add_duration(NOW, text, flag=FLAG)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("6m", timedelta(minutes=6)),
        ("1h30m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1w1d", timedelta(days=8)),
    ],
)
def test_a_fixed_duration_is_read(text: str, length: timedelta) -> None:
    assert parse_duration(text, flag="--timeout") == length


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1mo", "no fixed length"),
        ("1y", "no fixed length"),
        ("0s", "no time at all"),
        ("0d0h", "no time at all"),
        ("soon", "no duration"),
        (f"{'9' * 20}w", "too long"),
    ],
)
def test_a_fixed_duration_is_neither_nothing_nor_of_the_calendar(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_duration(text, flag="--timeout")
    assert caught.value.message.startswith("--timeout ")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-06-30", utc(2027, 6, 30)),
        ("2027-06-30T12:00:00+02:00", utc(2027, 6, 30, 10)),
        ("2027-06-30t12:00:00.25z", utc(2027, 6, 30, 12, 0, 0, 250_000)),
        ("90d", utc(2027, 2, 21, 12, 30, 15)),
        ("1y6mo", utc(2028, 5, 23, 12, 30, 15)),
        ("1970-01-01", utc(1970, 1, 1)),
    ],
)
def test_a_moment_is_a_date_a_time_stamp_or_a_duration_from_now(text: str, moment: datetime) -> None:
    assert parse_moment(text, flag=FLAG, now=NOW) == moment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2027-02-30", "there is no such day"),
        ("0000-01-01", "there is no such day"),
        ("2027-06-30T12:00:00", "no time stamp"),
        ("2027-06-30T25:00:00Z", "no time stamp"),
        ("0001-01-01T00:00:00Z", "no time stamp"),
        ("6m", "minutes or months"),
        ("tomorrow", "neither a duration nor a date"),
        ("", "neither a duration nor a date"),
        ("never", "neither a duration nor a date"),
        ("T", "neither a duration nor a date"),
        ("2027-6-30", "neither a duration nor a date"),
        ("1799999999", "neither a duration nor a date"),
    ],
)
def test_what_is_no_moment_is_refused_naming_the_flag(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_moment(text, flag=FLAG, now=NOW)
    assert caught.value.code == "bad_time"
    assert caught.value.message.startswith(FLAG)


@given(st.text(max_size=45))
def test_whatever_is_typed_as_a_moment_is_read_or_refused(text: str) -> None:
    try:
        moment = parse_moment(text, flag=FLAG, now=NOW)
    except UsageError:
        return
    assert moment.utcoffset() == timedelta()
