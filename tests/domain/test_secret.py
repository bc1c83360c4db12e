"""A secret shows itself nowhere but through `reveal()`."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UnusableSecret
from blnkctl.domain.secret import MASK, Secret, secret_from_text

PLAIN = "sEcReT-0123456789-value"
SECRET = Secret(PLAIN)


@dataclasses.dataclass(frozen=True)
class Holder:
    """Something that carries a secret."""

    name: str
    secret: Secret


SHOWN: list[Callable[[], str]] = [
    lambda: str(SECRET),
    lambda: repr(SECRET),
    lambda: ascii(SECRET),
    lambda: f"{SECRET}",
    lambda: f"{SECRET!r:>40}",
    lambda: f"{SECRET:>40}",
    lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031
    lambda: Formatter().format("{0} {0!r}", SECRET),
    lambda: repr([SECRET, {"key": SECRET}]),
    lambda: repr(Holder("billing", SECRET)),
    lambda: pprint.pformat({"holder": Holder("billing", SECRET)}),
    lambda: json.dumps({"key": SECRET}, default=str),
    lambda: str(ValueError(SECRET)),
    lambda: "".join(traceback.format_exception_only(ValueError(f"no {SECRET}"))),
    lambda: repr(dir(SECRET)),
]


@pytest.mark.parametrize("show", SHOWN)
def test_a_secret_is_masked_wherever_it_is_printed(show: Callable[[], str]) -> None:
    assert PLAIN not in show()


def test_a_masked_secret_says_that_it_is_one() -> None:
    assert (str(SECRET), repr(SECRET), f"{SECRET:>10}") == (MASK, f"Secret({MASK})", f"  {MASK}")


def test_a_secret_is_masked_in_a_log_with_its_traceback() -> None:
    stream = io.StringIO()
    logger = logging.Logger("secrets", level=logging.DEBUG)
    logger.addHandler(logging.StreamHandler(stream))
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("it was %s, in %r", SECRET, Holder("billing", SECRET))
    assert "Secret(" in stream.getvalue()
    assert PLAIN not in stream.getvalue()


REFUSED: list[Callable[[], object]] = [
    lambda: json.dumps(SECRET),
    lambda: json.dumps({"key": SECRET}),
    lambda: pickle.dumps(SECRET),
    lambda: pickle.dumps(Holder("billing", SECRET), protocol=0),
    lambda: copy.copy(SECRET),
    lambda: copy.deepcopy([SECRET]),
    lambda: dataclasses.asdict(Holder("billing", SECRET)),
    lambda: vars(SECRET),
    lambda: {SECRET: 1},
    lambda: hash(Holder("billing", SECRET)),
    lambda: list(SECRET),  # type: ignore[call-overload]
    lambda: "x" + SECRET,  # type: ignore[operator]
    lambda: SECRET.encode(),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("take", REFUSED)
def test_a_secret_is_not_copied_serialised_or_kept_in_a_table(take: Callable[[], object]) -> None:
    with pytest.raises((TypeError, AttributeError)) as caught:
        take()
    assert PLAIN not in str(caught.value)


def test_reveal_is_the_one_door() -> None:
    assert SECRET.reveal() == PLAIN


def test_a_secret_equals_only_another_secret_of_the_same_text() -> None:
    assert Secret(PLAIN) == SECRET
    assert Secret(PLAIN + "x") != SECRET
    assert SECRET != PLAIN


def test_a_fingerprint_is_the_published_one_and_differs_between_secrets() -> None:
    assert Secret("abc").fingerprint() == "f250b555c5de2924"
    assert Secret("abd").fingerprint() != Secret("abc").fingerprint()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("abc", "abc"),
        ("abc\n", "abc"),
        ("abc\r\n", "abc"),
        ("a b", "a b"),
        ("!\"#$%&'()~", "!\"#$%&'()~"),
    ],
)
def test_a_typed_secret_loses_one_trailing_newline(text: str, value: str) -> None:
    assert secret_from_text(text, "standard input").reveal() == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (f"{PLAIN}\n\n", "newline"),
        (f"{PLAIN}\nX-Evil: 1", "newline"),
        (f"{PLAIN}\rx", "newline"),
        (f" {PLAIN}", "space"),
        (f"{PLAIN} \n", "space"),
        (f"{PLAIN}é", "printable ASCII"),
        (f"{PLAIN}\x00", "printable ASCII"),
        (f"\t{PLAIN}", "printable ASCII"),
        (f"{PLAIN}\x7f", "printable ASCII"),
        (f"{PLAIN}\udc80", "printable ASCII"),
    ],
)
def test_an_unusable_secret_is_refused_by_its_source_and_never_quoted(text: str, words: str) -> None:
    with pytest.raises(UnusableSecret, match=words) as caught:
        secret_from_text(text, "BLNKCTL_ADMIN_KEY")
    assert "BLNKCTL_ADMIN_KEY" in caught.value.message
    assert PLAIN not in f"{caught.value.message}{caught.value.hint}{caught.value!r}"


@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1).filter(
        lambda text: text == text.strip()
    )
)
def test_any_printable_ascii_is_a_secret(text: str) -> None:
    assert secret_from_text(f"{text}\n", "a file").reveal() == text
    assert secret_from_text(text, "a file").fingerprint() == Secret(text).fingerprint()
