"""What in a text could be a key: however it was quoted, encoded, wrapped or cut, in any amount of other text."""

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blnkctl.domain.candidates import MOST_CANDIDATES, TextSearch
from blnkctl.domain.secret import Secret

KEY = "3lTZpMLH93GFBsSl_yysaaLiDilkkIIzP4dm5Z66o-I="
OTHER = "JJKX_PuXWhDpwUYaSJw1wxYd8DQ-H73OmCULbmHGRKc="
ADMIN = 's3cr&t key/of "prod"'


def looked(text: str | Iterable[str], *, admin: str | None = None, known: Iterable[str] = ()) -> TextSearch:
    """Return a search that read a text."""
    fingerprints = {Secret(word).fingerprint() for word in known}
    search = TextSearch([None if admin is None else Secret(admin)], fingerprints)
    search.read([text] if isinstance(text, str) else text)
    return search


def candidates(text: str | Iterable[str]) -> list[str]:
    """Return the words of a text that have a key's shape."""
    return [secret.reveal() for secret in looked(text).candidates]


@pytest.mark.parametrize(
    "text",
    [
        "{}", "{}\n", "  {}\r\n", '"{}"', "'{}'", "`{}`", "<{}>", "({})", "[{}],", "{};", "{}.", "«{}»", "{}\x00",
        "X-Blnk-Key: {}", "X-Blnk-Key:{}", "BLNK_API_KEY={}", "export BLNK_API_KEY='{}' # prod", '{{"key":"{}"}}',
        '"{{\\"key\\":\\"{}\\"}}"', "-{}", "+{}", "-BLNK_API_KEY={}", "+  key: {}", "key: {}\\n", "log\\n{}\\tmore",
        "https://user:{}@example.com/", "https://example.com/?key={}&x=1", "curl -H 'X-Blnk-Key: {}' https://x",
        "a,{},b", "a|{}|b", "/{}/", "é{}é", "\ufeff{}", "\x1b[31m{}\x1b[0m", "%22{}%22", "&quot;{}&quot;",
    ],
)  # fmt: skip
def test_a_key_is_found_in_what_it_is_written_in(text: str) -> None:
    assert candidates(text.format(KEY)) == [KEY]


@pytest.mark.parametrize("padding", ["%3D", "%3d", "%253D", r"\u003d", r"\u003D", "&#61;", "&equals;", "=3D"])
def test_a_key_is_found_though_its_padding_is_encoded(padding: str) -> None:
    assert candidates(f"https://example.com/?key={KEY[:-1]}{padding}&x=1") == [KEY]


@pytest.mark.parametrize("text", ["{}", "key={}", '"{}"', "-{}", "a {} b", "{}&x=1"])
def test_a_key_is_found_though_a_double_click_left_its_padding_out(text: str) -> None:
    assert candidates(text.format(KEY[:-1])) == [KEY]


@pytest.mark.parametrize("break_", ["\n", "\r\n    ", " ", "\n> ", "\u200b"])
def test_a_key_that_was_wrapped_is_put_together_again(break_: str) -> None:
    joined = candidates(f"{KEY[:20]}{break_}{KEY[20:]}")

    assert (KEY in joined) is (break_ != "\n> ")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "no key here", KEY[1:], KEY[:40], f"{KEY[:-1]}==", "a" * 64, "z" * 43, "x" * 5000, "\x00\xff" * 100],
)
def test_what_has_no_keys_shape_is_no_candidate(text: str) -> None:
    assert candidates(text) == []


def test_each_word_counts_once_and_those_with_their_padding_come_first() -> None:
    assert candidates(f"{OTHER[:-1]} {KEY} {KEY} {KEY[:-1]} {OTHER[:-1]}") == [KEY, OTHER]


def numbered(count: int) -> Iterator[str]:
    """Yield lines with a word in a key's shape, no two alike."""
    for number in range(count):
        yield f"line {number:043d}=\n"


def test_more_than_a_hundred_candidates_are_cut_and_that_is_told() -> None:
    search = looked(numbered(MOST_CANDIDATES + 1))

    assert (len(search.candidates), search.is_cut) == (MOST_CANDIDATES, True)
    assert looked(numbered(MOST_CANDIDATES)).is_cut is False


def test_a_known_key_is_found_behind_any_number_of_others() -> None:
    search = looked([*numbered(1000), f"{KEY}\n"], known=[KEY])

    assert [secret.reveal() for secret in search.known.values()] == [KEY]


@pytest.mark.parametrize(
    "text", ["{}", "x {} y", 'KEY="{}"', "KEY={}", "key: {}", "{},", '{{"key": "{}"}}', "a='{}';", "  {}  \n"]
)
@pytest.mark.parametrize("word", ["a-secret-of-no-shape", "with spaces inside it"])
def test_a_known_secret_of_any_shape_is_found(text: str, word: str) -> None:
    is_beyond_reach = " " in word and text in ("x {} y", '{{"key": "{}"}}', "a='{}';", "{},")

    assert bool(looked(text.format(word), known=[word]).known) is not is_beyond_reach


@pytest.mark.parametrize(
    "text",
    [ADMIN, f"x {ADMIN} y", "s3cr%26t%20key%2Fof%20%22prod%22", "s3cr%26t+key%2Fof+%22prod%22",
     r'{"secret_key": "s3cr&t key/of \"prod\""}', "s3cr&amp;t key/of &quot;prod&quot;"],
)  # fmt: skip
def test_an_admin_key_is_found_however_it_is_written(text: str) -> None:
    assert looked(text, admin=ADMIN).admin_keys == {0}
    assert looked(text, admin="another").admin_keys == set()


def test_a_short_admin_key_counts_only_where_it_stands_alone() -> None:
    assert looked("secret_key: root", admin="root").admin_keys == {0}
    assert looked("uprooted, rootless", admin="root").admin_keys == set()


@given(cuts=st.lists(st.integers(0, 12_000), max_size=6), filler=st.sampled_from(["x", "x ", "line\n", "é", "="]))
@settings(max_examples=60, deadline=None)
def test_where_the_input_is_cut_does_not_matter(cuts: list[int], filler: str) -> None:
    text = f"{filler * 5000} {KEY}\n{filler * 100} {ADMIN} {filler * 3000} {OTHER}"
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]

    search = looked([text[a:b] for a, b in pairwise(edges)], admin=ADMIN, known=[OTHER])

    assert {secret.reveal() for secret in search.candidates} >= {KEY, OTHER}
    assert (search.admin_keys, len(search.known)) == ({0}, 1)


@given(st.text())
@settings(deadline=None)
def test_junk_is_read_to_its_end(text: str) -> None:
    looked(text, admin="x", known=["y"])


@pytest.mark.parametrize("line", ["a log line with nothing in it\n", "no newline and no space at all"])
def test_memory_stays_flat_however_long_the_text_is(line: str) -> None:
    chunk = line * (100_000 // len(line))
    tracemalloc.start()
    try:
        looked(chunk for _ in range(50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 2_000_000
