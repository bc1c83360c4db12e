"""What commands read beside their words: files and standard input."""

import sys
from pathlib import Path

from blnkctl.domain.errors import UsageError
from blnkctl.domain.secret import Secret, secret_from_text

_LONGEST_SECRET = 64 * 1024


def read_text(source: Path | str) -> str:
    """Return the text of a file, or of standard input for `-`.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    shown = "Standard input" if source == "-" else str(source)
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except OSError as error:
        hint = "Name a file that you can read, or - for standard input."
        raise UsageError(f"{shown} cannot be read: {error.strerror}.", code="bad_input", hint=hint) from None
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is no UTF-8 text.", code="bad_input", hint="Save it as UTF-8.") from None


def read_lines(source: Path | str) -> list[str]:
    """Return the lines that are not empty."""
    return [line for line in read_text(source).splitlines() if line.strip()]


def read_secret() -> Secret:
    """Return the secret on standard input.

    Raises:
        UnusableSecret: it is empty, or is none.
    """
    try:
        text = sys.stdin.buffer.read(_LONGEST_SECRET).decode("utf-8", "replace")
    except (OSError, AttributeError):
        text = ""
    return secret_from_text(text, "standard input")
