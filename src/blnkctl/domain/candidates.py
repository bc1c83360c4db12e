"""What in any text could be a key: words in a key's shape, admin keys, words with a fingerprint that is known here.

Reads a text window by window, in bounded memory. Knows no server and no file, and never quotes what it reads.
"""

import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from urllib.parse import quote, quote_plus

from blnkctl.domain.secret import Secret

MOST_CANDIDATES = 100
_OVERLAP = 4096
_SMALL = 16 * 1024
_SHORTEST, _LONGEST = 8, 512
_UNMISTAKABLE = 16
_KEY_LENGTH = 43  # without the padding: 32 bytes in base64url

_RUN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43,}", re.ASCII)
# The padding as it is written in a URL, in a URL in a URL, in JSON and in HTML.
_PADDING = re.compile(r"=(?!=)|%3D|%253D|\\u003d|&#61;|&equals;", re.ASCII | re.IGNORECASE)
_LAST_OF_32_BYTES = frozenset("AEIMQUYcgkosw048")
_BETWEEN_WORDS = re.compile(r"[\s\"'`,;<>(){}\[\]|\\]+")
_BREAKS = re.compile("[\\s\u00ad\u200b\ufeff]+")


def windows(chunks: Iterable[str]) -> Iterator[str]:
    """Yield a text in windows that overlap, unless one ends with a line: what is cut by one is whole in the next."""
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        end = text.rfind("\n", max(0, len(text) - _OVERLAP)) + 1
        yield text[:end] if end else text
        rest = text[end:] if end else text[-_OVERLAP:]
    if rest:
        yield rest


class TextSearch:
    """Looks through a text. `fingerprints` are those of the index; an admin key is told by its number.

    Words in a key's shape are kept, each once, at most a hundred; `is_cut` where there were more.
    """

    def __init__(self, admin_keys: Sequence[Secret | None], fingerprints: Collection[str]) -> None:
        self.known: dict[str, Secret] = {}
        self.admin_keys: set[int] = set()
        self.is_cut = False
        self._fingerprints = fingerprints
        self._shapes = [() if key is None else _shapes(key.reveal()) for key in admin_keys]
        self._whole: dict[str, None] = {}
        self._guessed: dict[str, None] = {}
        self._beginning = ""

    @property
    def candidates(self) -> list[Secret]:
        """The words in a key's shape, those with their padding first."""
        words = [*self._whole, *(word for word in self._guessed if word not in self._whole)]
        return [Secret(word) for word in words[:MOST_CANDIDATES]]

    def read(self, chunks: Iterable[str]) -> None:
        """Look through a whole text."""
        for window in windows(self._remembering(chunks)):
            self._look(window)
        if len(self._beginning) <= _SMALL and not self.candidates:
            self._look_for_keys(_BREAKS.sub("", self._beginning))  # a line that a terminal or a letter wrapped
        self._beginning = ""
        self.is_cut = self.is_cut or len(self._whole | self._guessed) > MOST_CANDIDATES

    def _remembering(self, chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            self._beginning += chunk[: max(0, _SMALL + 1 - len(self._beginning))]
            yield chunk

    def _look(self, window: str) -> None:
        self._look_for_keys(window)
        for number, shapes in enumerate(self._shapes):
            if number not in self.admin_keys and any(_stands_in(shape, window) for shape in shapes):
                self.admin_keys.add(number)
        if self._fingerprints:
            for word in _words(window):
                self._compare(Secret(word))

    def _compare(self, word: Secret) -> None:
        fingerprint = word.fingerprint()
        if fingerprint in self._fingerprints:
            self.known.setdefault(fingerprint, word)

    def _look_for_keys(self, window: str) -> None:
        for word, is_whole in _key_shaped(window):
            kept = self._whole if is_whole else self._guessed
            if word in kept:
                continue
            self._compare(Secret(word))
            if len(kept) < MOST_CANDIDATES:
                kept[word] = None
            else:
                self.is_cut = True


def _key_shaped(window: str) -> Iterator[tuple[str, bool]]:
    """Yield what has a key's shape, and whether its padding is there.

    A key is anchored at its padding: what stands before it, a diff's `-` or an escape's letter, may look like a part.
    """
    for run in _RUN.finditer(window):
        word = run.group()[-_KEY_LENGTH:]
        if _PADDING.match(window, run.end()):
            yield f"{word}=", True
        elif _may_have_lost_its_padding(run.group(), window[run.end() : run.end() + 1]):
            yield f"{word}=", False


def _may_have_lost_its_padding(run: str, following: str) -> bool:
    """Tell whether a run is a key that was copied by a double click, which leaves out `=`; `-` may be a diff's."""
    is_whole = len(run) == _KEY_LENGTH or (len(run) == _KEY_LENGTH + 1 and run.startswith("-"))
    return is_whole and following != "=" and run[-1] in _LAST_OF_32_BYTES


def _words(window: str) -> Iterator[str]:
    """Yield words, whole lines, and what stands behind the first `=` or `:` of either."""
    for piece in (*_BETWEEN_WORDS.split(window), *window.splitlines()):
        word = piece.strip()
        for text in (word, word.partition("=")[2], word.partition(":")[2]):
            value = text.strip(" \t\"'")
            if _SHORTEST <= len(value) <= _LONGEST:
                yield value


def _shapes(key: str) -> tuple[str, ...]:
    """Return a key as it may be written: plain, in a URL, in JSON, in HTML."""
    return tuple({key, quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], html.escape(key)})


def _stands_in(shape: str, window: str) -> bool:
    """Tell whether a key is in a text; a short one, which may be a common word, only where it stands alone."""
    at = window.find(shape)
    while at >= 0:
        neighbours = window[max(0, at - 1) : at] + window[at + len(shape) : at + len(shape) + 1]
        if len(shape) >= _UNMISTAKABLE or not any(character.isalnum() for character in neighbours):
            return True
        at = window.find(shape, at + 1)
    return False
