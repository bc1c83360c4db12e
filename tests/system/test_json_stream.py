"""Reading JSON value by value: the same as reading it whole, however its bytes arrive."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.system.json_stream import LONGEST_VALUE, JsonStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Broken(Exception):
    """What is wrong with a text."""


def stream_of(text: str | bytes, size: int = 3) -> JsonStream:
    """Return a stream whose bytes arrive a few at a time."""
    content = text.encode() if isinstance(text, str) else text

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(content), size):
            yield content[at : at + size]

    return JsonStream(chunks(), Broken)


@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 2]))
def test_elements_are_what_the_whole_array_holds(values: list[Any], size: int, indent: int | None) -> None:
    for is_ascii in (True, False):
        text = json.dumps(values, indent=indent, ensure_ascii=is_ascii).encode(errors="replace")
        stream = stream_of(text, size)
        assert list(stream.elements()) == json.loads(text)
        assert stream.peek() == ""


@given(st.binary(max_size=60), st.integers(1, 9))
def test_junk_is_refused_or_read_and_nothing_else_happens(junk: bytes, size: int) -> None:
    with suppress(Broken):
        list(stream_of(junk, size).elements())


@pytest.mark.parametrize("text", ["", "[", "[1", "[1,", '["a', '[{"a": ', "[1, 2"])
def test_an_array_that_breaks_off_is_cut_short(text: str) -> None:
    with pytest.raises(Broken, match="is cut short"):
        list(stream_of(text).elements())


@pytest.mark.parametrize("text", ["{}", "[1 2]", "12"])
def test_what_is_no_array_is_not_json(text: str) -> None:
    with pytest.raises(Broken):
        list(stream_of(text).elements())


def test_bytes_that_are_no_utf_8_and_values_without_end_are_told() -> None:
    with pytest.raises(Broken, match="is not UTF-8"):
        list(stream_of(b'["\xff"]').elements())
    with pytest.raises(Broken, match="is nested without end"):
        list(stream_of("[" * 100_001, 100_001).elements())
    with pytest.raises(Broken, match="of more than 1 MiB"):
        list(stream_of('["' + "a" * (LONGEST_VALUE + 10), 65536).elements())
