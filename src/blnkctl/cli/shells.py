"""How each shell's script hands over a command line, and takes what may stand at the cursor.

Knows the scripts, which are Typer's, and no command. What is offered is data, also where a script evaluates it: it
is quoted so that it arrives as it is, and left out where that cannot be done.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from typer._click.shell_completion import split_arg_string

_BASH_BREAK = re.compile(r"[:=@]+")
_BASH_SPECIAL = re.compile(r"[ !\"#$&'()*;<>?\[\\\]^`{|}~]")
_BASH_PLAIN_IN_QUOTES = re.compile(r"[\w ./:@%+=,-]*")
_ZSH_SPECIAL = re.compile(r"[^A-Za-z0-9_./,-]")
_POWERSHELL_PLAIN = re.compile(r"[\w./:-]*", re.ASCII)
_POWERSHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_END = "\0"  # what no variable can hold


@dataclass(frozen=True, slots=True)
class Line:
    """A command line up to the cursor, without the program and unquoted: whole words, and the one being typed."""

    words: list[str]
    typed: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A word that may take the place of the one being typed. Neither it nor its help holds a control character."""

    word: str
    help: str = ""


class Shell(Protocol):
    """One TAB of a shell."""

    line: Line

    def answer(self, offers: Sequence[Offer]) -> tuple[str, int]:
        """Return what the script takes, and the exit code."""


class Bash:
    """The script passes the pieces that readline breaks a line into: at `:`, `=` and `@` as well as at blanks.

    An answer takes the place of the last piece, as it stands; so it is quoted here, as the piece was begun.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        pieces = environment["COMP_WORDS"].split("\n")[1 : int(environment["COMP_CWORD"]) + 1]
        words = _rejoined(pieces)
        self.line = Line([_unquoted(word) for word in words[:-1]], _unquoted(words[-1]))
        self._piece = "" if _BASH_BREAK.fullmatch(pieces[-1]) else pieces[-1]
        self._kept = _unquoted(words[-1].removesuffix(self._piece))

    def answer(self, offers: Sequence[Offer]) -> tuple[str, int]:
        """Return the words."""
        words = (self._quoted(offer.word.removeprefix(self._kept)) for offer in offers)
        return "\n".join(filter(None, words)), 0

    def _quoted(self, word: str) -> str | None:
        """Quote a word; None where a quotation mark is open that it could not stand behind."""
        if not re.search("['\"]", self._piece):
            return _BASH_SPECIAL.sub(r"\\\g<0>", word)
        is_open = self._piece[0] in "'\"" and not re.search(r"['\"\\]", self._piece[1:])
        return word if is_open and _BASH_PLAIN_IN_QUOTES.fullmatch(word) else None


class Zsh:
    """The script evaluates the answer, its blanks folded; so every character that means something goes by number."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.line = _split(environment["_TYPER_COMPLETE_ARGS"])

    def answer(self, offers: Sequence[Offer]) -> tuple[str, int]:
        """Return a call that describes the words; without one, a call that offers files."""
        if not offers:
            return "_files", 0
        items = " ".join(f"$'{_ZSH_SPECIAL.sub(_by_number, _described(offer))}'" for offer in offers)
        return f"local -a offers; offers=({items}); _describe value offers", 0


class Fish:
    """The script asks twice: whether there are words, and which. Fish quotes them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.line = _split(environment["_TYPER_COMPLETE_ARGS"])
        self._asks_whether = environment.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args"

    def answer(self, offers: Sequence[Offer]) -> tuple[str, int]:
        """Return words with their helps; or nothing, and by the code whether there are words."""
        if self._asks_whether:
            return "", 0 if offers else 1
        return "\n".join(f"{offer.word}\t{offer.help}" for offer in offers), 0


class PowerShell:
    """The script puts an answer into the line as it stands, and shows the help beside it, which must not be empty."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        words = split_arg_string(environment.get("_TYPER_COMPLETE_ARGS", ""))[1:]
        typed = environment.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
        self.line = Line(words[:-1] if typed else words, _unquoted(typed))

    def answer(self, offers: Sequence[Offer]) -> tuple[str, int]:
        """Return words with their helps."""
        lines = (f"{self._quoted(offer.word)}:::{offer.help or ' '}" for offer in offers if _fits_powershell(offer))
        return "\n".join(lines), 0

    def _quoted(self, word: str) -> str:
        return word if _POWERSHELL_PLAIN.fullmatch(word) else f"'{word}'"


SHELLS: dict[str, type[Bash] | type[Zsh] | type[Fish] | type[PowerShell]] = {
    "bash": Bash,
    "zsh": Zsh,
    "fish": Fish,
    "powershell": PowerShell,
}


def _rejoined(pieces: Sequence[str]) -> list[str]:
    """Return the words as they were typed, still quoted."""
    words: list[str] = []
    before = ""
    for piece in pieces:
        if words and piece and (_BASH_BREAK.fullmatch(piece) or _BASH_BREAK.fullmatch(before)):
            words[-1] += piece
        else:
            words.append(piece)
        before = piece
    return words


def _split(text: str) -> Line:
    """Split a line that ends at the cursor; the mark tells a word that is typed from one that is to begin."""
    words = split_arg_string(text + _END)
    return Line(words[1:-1], words[-1].removesuffix(_END))


def _unquoted(word: str) -> str:
    return " ".join(split_arg_string(word + _END)).removesuffix(_END)


def _described(offer: Offer) -> str:
    """Return a word with its help as `_describe` reads it."""
    word = offer.word.replace("\\", "\\\\").replace(":", "\\:")
    return f"{word}:{offer.help}" if offer.help else word


def _by_number(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())


def _fits_powershell(offer: Offer) -> bool:
    return ":::" not in offer.word and not _POWERSHELL_QUOTES.search(offer.word)
