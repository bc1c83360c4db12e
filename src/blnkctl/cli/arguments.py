"""Reading argv without a parser: for the errors of command lines that could not be parsed."""

from collections.abc import Sequence

from blnkctl.cli.flags import FORMATS
from blnkctl.cli.root import command_names

_WITH_VALUE = ("--context", "--output", "-o", "--timeout", "--reason")


def last_format(arguments: Sequence[str]) -> str | None:
    """Return the last output format that was asked for before `--`."""
    found = None
    words = before_dashes(arguments)
    for at, word in enumerate(words):
        value = None
        if word in ("-o", "--output"):
            value = words[at + 1] if at + 1 < len(words) else None
        elif word.startswith("--output="):
            value = word.partition("=")[2]
        elif word.startswith("-o"):
            value = word[2:]
        found = value if value in FORMATS else found
    return found


def before_dashes(arguments: Sequence[str]) -> list[str]:
    """Return the words before `--`."""
    words = list(arguments)
    return words[: words.index("--")] if "--" in words else words


def child_command(arguments: Sequence[str]) -> list[str] | None:
    """Return the words after the first `--`, None where there is none."""
    words = list(arguments)
    return words[words.index("--") + 1 :] if "--" in words else None


def known_prefix(arguments: Sequence[str]) -> str:
    """Return the longest beginning of the command line that names a group or a command."""
    found: list[str] = []
    skip = False
    for word in before_dashes(arguments):
        if skip or word.startswith("-"):
            skip = not skip and word in _WITH_VALUE
            continue
        if word not in command_names(found):
            break
        found.append(word)
    return " ".join(found)
