"""Reading a JSON document value by value, as its bytes arrive. Knows nothing of what the values mean."""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator

LONGEST_VALUE = 1 << 20
_DECODER = json.JSONDecoder()
_find_no_space = re.compile(r"[^ \t\n\r]").search


class JsonStream:
    """The text of a stream of UTF-8, held only as far as one value needs.

    What is wrong with it is raised as `failure`, made of a sentence's end: `is cut short`.
    """

    def __init__(self, chunks: Iterable[bytes], failure: Callable[[str], Exception]) -> None:
        self._chunks = iter(chunks)
        self._failure = failure
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            found = _find_no_space(self._text, self._at)
            if found is not None:
                self._at = found.start()
                return found.group()
            self._at = len(self._text)
            if not self._fill():
                return ""

    def expect(self, word: str) -> None:
        """Step over a word that must come next."""
        self.peek()
        while len(self._text) - self._at < len(word) and self._fill():
            pass
        if not self._text.startswith(word, self._at):
            raise self._failure("is cut short" if len(self._text) - self._at < len(word) else "is not JSON")
        self._at += len(word)

    def take_value(self) -> object:
        """Return the next JSON value whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._failure("is nested without end") from None
            except ValueError:
                self._fill_or_give_up()
                continue
            if end == len(self._text) and self._fill():
                continue  # a number may go on
            self._at = end
            return value

    def elements(self) -> Iterator[object]:
        """Yield the elements of an array that must come next."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.take_value()
            if self.peek() == "]":
                self.expect("]")
                return
            self.expect(",")

    def _fill_or_give_up(self) -> None:
        if len(self._text) - self._at > LONGEST_VALUE:
            raise self._failure("holds a record of more than 1 MiB")
        if not self._fill():
            raise self._failure("is cut short")

    def _fill(self) -> bool:
        for chunk in self._chunks:
            text = self._decode(chunk)
            if text:
                self._text = self._text[self._at :] + text
                self._at = 0
                return True
        self._decode(b"", is_last=True)
        return False

    def _decode(self, chunk: bytes, *, is_last: bool = False) -> str:
        try:
            return self._decoder.decode(chunk, is_last)
        except UnicodeDecodeError:
            raise self._failure("is not UTF-8") from None
