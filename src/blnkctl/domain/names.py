"""What a typed owner or name may look like, and how text from a server is shown harmlessly."""

import unicodedata

from blnkctl.domain.errors import UsageError
from blnkctl.domain.secret import refuse_secret_word

LONGEST_NAME = 200
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_unsafe(character: str) -> bool:
    """Tell whether a character can move a cursor, hide or reorder text: controls, bidirectional marks, surrogates."""
    return character in _BIDIRECTIONAL or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def check_typed_name(text: str, what: str) -> str:
    """Return `text` unless it could not be meant as the name of a key or an owner.

    Raises:
        UsageError: it is blank, longer than 200 characters, or holds a control or bidirectional character.
    """
    refuse_secret_word(text)
    if not text.strip():
        raise UsageError(f"The {what} is blank.", code="bad_name", hint=f"Give the {what} at least one letter.")
    if len(text) > LONGEST_NAME:
        raise UsageError(
            f"The {what} has {len(text)} characters; at most {LONGEST_NAME} are accepted.",
            code="bad_name",
            hint=f"Shorten the {what}.",
        )
    unsafe = next((character for character in text if is_unsafe(character)), None)
    if unsafe is not None:
        raise UsageError(
            f"The {what} holds the control or bidirectional character U+{ord(unsafe):04X}.",
            code="bad_name",
            hint="Type it without: such characters make a name look like another in lists.",
        )
    return text


def escape_unsafe(text: str) -> str:
    """Return `text` with backslash, tab, newline and unsafe characters written as escapes (`\\\\ \\t \\n \\xNN`)."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def harmless(text: str) -> str:
    """Return a sentence that cannot move a cursor; what it quotes is escaped already, and stays as it is."""
    if text.isprintable():
        return text
    return "".join(one if one == "\n" or not is_unsafe(one) else _escape(one) for one in text)


def _escape(character: str) -> str:
    named = {"\\": "\\\\", "\t": "\\t", "\n": "\\n"}.get(character)
    if named is not None:
        return named
    if not is_unsafe(character):
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
