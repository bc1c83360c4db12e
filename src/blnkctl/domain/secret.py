"""The one type that holds a secret. Its only door is `reveal()`: `grep -rn 'reveal()'` is the review."""

import re
from typing import NoReturn

from blnkctl.domain.errors import UnusableSecret, UsageError

MASK = "********"
KEY_SHAPE = r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}=(?![A-Za-z0-9_=-])"  # compiled when it is first needed


class Secret:
    """A secret that masks itself wherever it could be printed, and refuses to be pickled or copied to JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain text. Every call is a place to review."""
        return self._value

    def fingerprint(self) -> str:
        """Return the first 16 hex digits of SHA-256 over `blnkctl:` and the secret; safe to show and to keep."""
        import hashlib  # here, as a help text needs neither this nor hmac

        return hashlib.sha256(b"blnkctl:" + self._value.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac

        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        raise TypeError("a Secret is not hashable: it would linger in dictionaries and sets")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


def mask_keys(text: str) -> str:
    """Return text with every word in the shape of a key masked: what somebody typed in the wrong place is quoted."""
    return re.sub(KEY_SHAPE, MASK, text)


def refuse_secret_word(word: str) -> None:
    """Raise UsageError where a word of the command line is a key itself.

    Raises:
        UsageError: it has a key's shape (`secret_as_argument`); it is not quoted.
    """
    if re.search(KEY_SHAPE, word):
        raise UsageError(
            "A word of the command line is a secret itself, which other users of this machine can read there.",
            code="secret_as_argument",
            hint="Name the key by its id or OWNER/NAME; secrets are read from standard input. Replace that key, if"
            " this machine is not yours alone.",
        )


def secret_from_text(text: str, source: str) -> Secret:
    """Take a secret that was typed or read from `source`: one trailing newline is dropped, the rest is checked.

    Raises:
        UnusableSecret: it is empty, has a space at either end, or holds anything but printable ASCII.
            Checked here because an HTTP library would quote it in its exception.
    """
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise UnusableSecret(source, "is empty")
    if value != value.strip(" "):
        raise UnusableSecret(source, "begins or ends with a space")
    if "\n" in value or "\r" in value:
        raise UnusableSecret(source, "holds a newline")
    if not all(" " <= character <= "~" for character in value):
        raise UnusableSecret(source, "holds a character that is not printable ASCII")
    return Secret(value)
