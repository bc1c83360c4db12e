"""Typed names and owners, and how text from elsewhere is shown harmlessly."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.names import LONGEST_NAME, check_typed_name, escape_unsafe, is_unsafe

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    "name",
    ["billing", "a/b/c", "[prod] x", "api[/]key", "Zürich", "課金", "a b", "😀", "x" * LONGEST_NAME, "-n", "\\"],
)
def test_a_name_with_any_ordinary_character_is_taken_as_it_is(name: str) -> None:
    assert check_typed_name(name, "name") == name


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u2003", "\u00a0"])
def test_a_blank_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="The owner is blank") as caught:
        check_typed_name(name, "owner")
    assert caught.value.code == "bad_name"


def test_a_name_of_more_than_200_characters_is_refused_with_its_length() -> None:
    with pytest.raises(UsageError, match="The name has 201 characters; at most 200"):
        check_typed_name("é" * 201, "name")


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x1b", "\n", "\x7f", "\x85", "\u2028", "\udc80", *BIDIRECTIONAL]
)
def test_a_control_or_bidirectional_character_is_refused_and_named_not_shown(character: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_typed_name(f"bill{character}ing", "name")
    assert f"U+{ord(character):04X}" in caught.value.message
    assert character not in caught.value.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Zürich 課金 😀", "Zürich 課金 😀"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("a\tb\nc\\d", "a\\tb\\nc\\\\d"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\r\x00\x7f\x85", "\\x0d\\x00\\x7f\\x85"),
        ("left\u202eright", "left\\u202eright"),
        ("\u2028", "\\u2028"),
        ("\udc80", "\\udc80"),
    ],
)
def test_unsafe_text_is_shown_as_escapes(text: str, shown: str) -> None:
    assert escape_unsafe(text) == shown


@given(st.text(st.characters(), max_size=60))
def test_escaped_text_holds_nothing_that_moves_a_cursor_or_hides_text(text: str) -> None:
    shown = escape_unsafe(text)
    assert not [character for character in shown if is_unsafe(character)]
    assert not [character for character in shown if unicodedata.category(character) in ("Cc", "Cs")]
    shown.encode()


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_two_texts_are_never_shown_alike(one: str, other: str) -> None:
    assert (escape_unsafe(one) == escape_unsafe(other)) is (one == other)


@given(st.text(st.characters(), max_size=210))
def test_a_name_that_is_taken_is_shown_as_it_was_typed(text: str) -> None:
    try:
        name = check_typed_name(text, "name")
    except UsageError:
        return
    assert escape_unsafe(name) == name.replace("\\", "\\\\")
