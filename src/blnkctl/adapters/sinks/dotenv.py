"""The text of an env file: what it gives a variable, and the same text with another value. Bytes in, bytes out.

dotenv's libraries, `docker --env-file`, systemd's EnvironmentFile and `sh` read such files, each by rules of its own.
So nothing is written where they would differ: that is `Unclear`. Knows nothing of where the text is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"
_ASSIGNMENT = re.compile(rb"[ \t]*(export[ \t]+)?([^\s=#'\"`]+)[ \t]*=")
_DOUBLE = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(rb"'([^']*)'")
_LINE = re.compile(rb"[^\r\n]*")
_COMMENT = re.compile(rb"[ \t]#")
_NO_TEXT = re.compile(rb"\x00|\r(?!\n)")
_ESCAPED = re.compile(r"\\([\\\"$`])")
_CODE = re.compile(rb"['\"`\\;&|]|\$\(")
_SHELL_TOKEN = re.compile(
    rb"""\\.|(?P<quoted>'[^']*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)|(?<![^\s;&|()])\#[^\n]*|[^\\'"`\#]+|\#|(?P<open>.)""",
    re.DOTALL,
)
_READ_ALIKE = re.compile(r"[A-Za-z0-9_+/=.:@%,-]+", re.ASCII)
_REHEARSED = "x"


class Unclear(Exception):
    """Readers of this file would not agree on what it says; the text says where and why."""

    def __init__(self, content: bytes, position: int, why: str) -> None:
        number = content.count(b"\n", 0, position) + 1
        super().__init__(f"line {number} {why}")


@dataclass(frozen=True, slots=True)
class _Assignment:
    """`start` to `end` is what it takes up, without the line's end; `value` is what stands in `quote`s."""

    name: bytes
    start: int
    value: slice
    quote: bytes
    end: int
    is_exported: bool
    rest: bytes = b""


def is_read_alike(value: str) -> bool:
    """Tell whether every reader takes a value, written without quotes, for the same."""
    return _READ_ALIKE.fullmatch(value) is not None


def value_of(content: bytes, name: str) -> str | None:
    """Return the value that a text gives a variable last, or None.

    Raises:
        Unclear: readers would not agree.
    """
    found = [one for one in _assignments(content) if one.name == name.encode()]
    if not found:
        return None
    _check_is_whole(content, found[-1])
    text = content[found[-1].value].decode("utf-8", "replace")
    if found[-1].quote == b'"':
        return _ESCAPED.sub(r"\1", text)
    return text if found[-1].quote else text.rstrip(" \t")


def check_settable(content: bytes, name: str) -> None:
    """Raise Unclear where a variable could not be set so that every reader sees it."""
    with_value(content, name, _REHEARSED)


def with_value(content: bytes, name: str, value: str) -> bytes:
    """Return the text with one variable set, and every other byte as it was.

    Raises:
        Unclear: readers would not agree on what it says then.
    """
    everything = list(_assignments(content))
    found = [one for one in everything if one.name == name.encode()]
    _check_is_set_once(content, name, found, everything)
    if not found:
        return content + _appended(content, f"{name}={value}".encode(), everything)
    _check_is_plain(content, found[0])
    place = found[0].value
    return content[: place.start] + value.encode() + content[place.stop :]


# --- reading ------------------------------------------------------------------------------------


def _assignments(content: bytes) -> Iterator[_Assignment]:
    """Yield every assignment in order. What stands inside a quoted value of several lines is none."""
    no_text = _NO_TEXT.search(content)
    if no_text is not None:
        raise Unclear(content, no_text.start(), "holds a NUL byte, or a carriage return alone")
    position = len(_BOM) if content.startswith(_BOM) else 0
    while position < len(content):
        found = _ASSIGNMENT.match(content, position)
        if found is not None:
            assignment = _assignment(content, found)
            yield assignment
            position = assignment.end
        position = content.find(b"\n", position) + 1 or len(content)


def _assignment(content: bytes, found: re.Match[bytes]) -> _Assignment:
    start = _after_blanks(content, found.end())
    if content[start : start + 1] in (b'"', b"'"):
        return _quoted(content, found, start)
    value, end = _unquoted(content, found.end())
    return _Assignment(found[2], found.start(), value, b"", end, found[1] is not None)


def _unquoted(content: bytes, start: int) -> tuple[slice, int]:
    """Return where the value is, with blanks behind it: `docker` takes them for a part of it."""
    end = _line_end(content, start)
    comment = _COMMENT.search(content, start, end)
    stop = end if comment is None else comment.start()
    value = content[start:stop].strip(b" \t")
    if not value:
        return slice(start, start), end
    begin = _after_blanks(content, start)
    return slice(begin, stop if comment is None else begin + len(value)), end


def _quoted(content: bytes, found: re.Match[bytes], start: int) -> _Assignment:
    quote = content[start : start + 1]
    text = (_DOUBLE if quote == b'"' else _SINGLE).match(content, start)
    if text is None:
        raise Unclear(content, start, "opens a quote that is not closed")
    if quote == b"'" and text[1].endswith(b"\\"):
        raise Unclear(content, start, "has a backslash before the closing quote")
    end = _line_end(content, text.end())
    rest = content[text.end() : end].lstrip(b" \t")
    if not rest.startswith(b"#") and re.search(rb"['\"`]", rest):
        raise Unclear(content, start, "has more than one quoted value")
    return _Assignment(found[2], found.start(), slice(*text.span(1)), quote, end, found[1] is not None, rest)


def _after_blanks(content: bytes, position: int) -> int:
    while content[position : position + 1] in (b" ", b"\t"):
        position += 1
    return position


def _line_end(content: bytes, position: int) -> int:
    line = _LINE.match(content, position)
    return position if line is None else line.end()


# --- where readers differ -----------------------------------------------------------------------


def _check_is_set_once(content: bytes, name: str, found: list[_Assignment], everything: list[_Assignment]) -> None:
    if len(found) > 1:
        raise Unclear(content, found[1].start, f"sets {name} once more")
    for bare in re.finditer(rb"^[ \t]*" + name.encode() + rb"[ \t]*(?:#.*)?\r?$", content, re.MULTILINE):
        if not any(one.start <= bare.start() < one.end for one in everything):
            raise Unclear(content, bare.start(), f"names {name} without a value")


def _check_is_plain(content: bytes, found: _Assignment) -> None:
    _check_is_whole(content, found)
    if not found.quote and _CODE.search(content[found.value]):
        raise Unclear(content, found.start, "has a quote, a backslash or a command in its value")
    if _is_continued(content, found.start):
        raise Unclear(content, found.start, "stands behind a line that ends in a backslash")
    for begin, end in _quoted_for_a_shell(content):
        if begin < found.start < end:
            raise Unclear(content, found.start, "stands inside a quoted value, as a shell reads it")


def _check_is_whole(content: bytes, found: _Assignment) -> None:
    if found.rest and not found.rest.startswith(b"#"):
        raise Unclear(content, found.start, "goes on behind the quoted value")


def _is_continued(content: bytes, start: int) -> bool:
    """Tell whether a shell or systemd takes a line for the end of the one before."""
    before = content[:start].removesuffix(b"\n").removesuffix(b"\r")
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def _quoted_for_a_shell(content: bytes) -> list[tuple[int, int]]:
    """Return what a shell takes for quoted, over several lines; nothing where no shell could read the text."""
    spans = []
    for token in _SHELL_TOKEN.finditer(content):
        if token["open"] is not None:
            return []
        if token["quoted"] is not None and b"\n" in token["quoted"]:
            spans.append(token.span())
    return spans


# --- writing ------------------------------------------------------------------------------------


def _appended(content: bytes, line: bytes, others: list[_Assignment]) -> bytes:
    """Return what a new last line adds: in the style of the others, behind a line break if there was none."""
    if _is_continued(content, len(content)):
        raise Unclear(content, len(content) - 1, "ends in a backslash, and nothing follows it")
    has_export = bool(others) and all(one.is_exported for one in others)
    line_break = b"\r\n" if content[: content.rfind(b"\n") + 1].endswith(b"\r\n") else b"\n"
    is_at_start = content in (b"", _BOM) or content.endswith(b"\n")
    return (b"" if is_at_start else line_break) + (b"export " if has_export else b"") + line + line_break
