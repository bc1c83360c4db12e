"""The grace of an old key: what is read of what is typed, and that what is shown can be typed again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.grace import DEFAULT_GRACE, LONGEST_GRACE, format_grace, parse_grace

FLAG = "--grace"


@pytest.mark.parametrize(
    ("text", "grace", "shown"),
    [
        ("90s", timedelta(seconds=90), "90s"),
        ("3600s", timedelta(hours=1), "1h"),
        ("1d", timedelta(hours=24), "24h"),
        ("1d12h", timedelta(hours=36), "36h"),
        ("1h1s", timedelta(seconds=3601), "3601s"),
        ("48h", timedelta(days=2), "2d"),
        ("2w", timedelta(days=14), "14d"),
        ("1mo", timedelta(days=31), "31d"),
        ("6mo", timedelta(days=181), "181d"),
        ("12mo", LONGEST_GRACE, "365d"),
        ("1y", LONGEST_GRACE, "365d"),
    ],
)
def test_a_grace_is_read_and_shown_as_one_number_and_one_unit(text: str, grace: timedelta, shown: str) -> None:
    assert parse_grace(text, flag=FLAG) == grace
    assert format_grace(grace) == shown


def test_unless_told_otherwise_it_is_shown_in_hours() -> None:
    assert format_grace(DEFAULT_GRACE) == "24h"


@given(st.timedeltas(timedelta(seconds=1), LONGEST_GRACE))
def test_what_is_shown_can_be_typed_again(any_length: timedelta) -> None:
    grace = timedelta(seconds=int(any_length.total_seconds()))

    assert parse_grace(format_grace(grace), flag=FLAG) == grace


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("5m", "--grace '5m': 'm' could mean minutes or months.", "6mo for months"),
        ("1h30m", "--grace '1h30m': 'm' could mean minutes or months.", "3600s or 1h"),
        ("0h", "--grace '0h' is no time to come.", "keys rotate --now"),
        ("0d0s", "--grace '0d0s' is no time to come.", "keys rotate --now"),
        ("-1h", "--grace '-1h' is no time to come.", "keys rotate --now"),
        ("366d", "--grace '366d' is more than a year.", "keys rotate --keep-old"),
        ("13mo", "--grace '13mo' is more than a year.", "keys rotate --keep-old"),
        ("9999y", "--grace '9999y' reaches beyond the year 9999.", "12h"),
        ("", "--grace '' is no duration.", "12h"),
        ("24", "--grace '24' is no duration.", "12h"),
        ("soon", "--grace 'soon' is no duration.", "12h"),
    ],
)
def test_what_is_no_grace_is_refused_with_the_way_on(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_grace(text, flag=FLAG)

    assert (caught.value.code, caught.value.message) == ("bad_time", message)
    assert hint in (caught.value.hint or "")


@given(st.text(max_size=45))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    try:
        grace = parse_grace(text, flag=FLAG)
    except UsageError:
        return
    assert timedelta() < grace <= LONGEST_GRACE
