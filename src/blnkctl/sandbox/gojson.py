"""JSON as Go's standard library reads and writes it, its error texts included. Knows no schema."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SPACE = b" \t\r\n"
_MAX_DEPTH = 10_000
_STRING_PART = rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*'
_STRING = re.compile(b'"' + _STRING_PART)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS: dict[int, tuple[bytes, str, object]] = {
    ord("t"): (b"true", "bool", True),
    ord("f"): (b"false", "bool", False),
    ord("n"): (b"null", "null", None),
}
_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_UNSAFE = re.compile("[<>&\u2028\u2029]")
_write = json.JSONEncoder(ensure_ascii=False).encode
_SURROGATES = re.compile("[\ud800-\udfff]")


class GoJSONError(ValueError):
    """A text that Go's parser refuses; the message is Go's."""


class Node:
    """One value: its kind as Go's errors name it, its text, and its parts."""

    __slots__ = ("items", "kind", "pairs", "raw", "text")

    def __init__(self, kind: str, raw: bytes = b"", text: str = "") -> None:
        self.kind = kind
        self.raw = raw
        self.text = text
        self.items: list[Node] = []
        self.pairs: list[tuple[str, Node]] = []


@dataclass
class _Open:
    """A container whose end has not been read yet."""

    node: Node
    key: str = ""


def parse(data: bytes) -> tuple[Node, int]:
    """Read the first value and return it with the position behind it; raise GoJSONError.

    Like Go's Decoder it ignores what follows.
    """
    return _Parser(data).read()


def decode_text(raw: bytes) -> str:
    """Decode UTF-8, every stray octet becoming one U+FFFD."""
    return raw.decode("utf-8", "blnkctl-go")


def _each_octet(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("blnkctl-go", _each_octet)


class _Parser:
    """A loop with its own stack: Go allows ten thousand levels, Python's does not."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[_Open] = []

    def read(self) -> tuple[Node, int]:
        self._skip_space()
        if self._at == len(self._data):
            raise GoJSONError("EOF")
        while True:
            done = self._value()
            while done is not None:
                if not self._stack:
                    return done, self._at
                done = self._attach(done)

    def _value(self) -> Node | None:
        """Read a scalar or an empty container; None when a container was opened."""
        octet = self._next("looking for beginning of value")
        if octet == ord("{"):
            return self._open("object", ord("}"))
        if octet == ord("["):
            return self._open("array", ord("]"))
        if octet == ord('"'):
            return self._string()
        if octet in _LITERALS:
            return self._literal(octet)
        if octet == ord("-") or 0x30 <= octet <= 0x39:
            return self._number()
        raise self._fault("looking for beginning of value")

    def _open(self, kind: str, end: int) -> Node | None:
        if len(self._stack) >= _MAX_DEPTH:
            raise self._fault("exceeded max depth")
        self._at += 1
        node = Node(kind)
        if self._peek() == end:
            self._at += 1
            return node
        self._stack.append(_Open(node))
        if kind == "object":
            self._key()
        return None

    def _key(self) -> None:
        if self._next("looking for beginning of object key string") != ord('"'):
            raise self._fault("looking for beginning of object key string")
        self._stack[-1].key = self._string().text
        if self._next("after object key") != ord(":"):
            raise self._fault("after object key")
        self._at += 1

    def _attach(self, done: Node) -> Node | None:
        """Put a value into its container; return the container once that is closed."""
        top = self._stack[-1]
        is_object = top.node.kind == "object"
        if is_object:
            top.node.pairs.append((top.key, done))
        else:
            top.node.items.append(done)
        context = "after object key:value pair" if is_object else "after array element"
        octet = self._next(context)
        if octet == ord(","):
            self._at += 1
            if is_object:
                self._key()
            return None
        if octet != ord("}" if is_object else "]"):
            raise self._fault(context)
        self._at += 1
        return self._stack.pop().node

    def _string(self) -> Node:
        start = self._at
        match = _STRING.match(self._data, start)
        self._at = match.end() if match else start
        if self._data[self._at : self._at + 1] != b'"':
            raise self._string_fault()
        self._at += 1
        raw = self._data[start : self._at]
        return Node("string", raw, _SURROGATES.sub("\ufffd", json.loads(decode_text(raw))))

    def _string_fault(self) -> GoJSONError:
        if self._octet() != ord("\\"):
            return self._fault("in string literal")
        self._at += 1
        if self._octet() != ord("u"):
            return self._fault("in string escape code")
        self._at += 1
        while chr(self._octet() or 0) in "0123456789abcdefABCDEF":
            self._at += 1
        return self._fault("in \\u hexadecimal character escape")

    def _literal(self, first: int) -> Node:
        word, kind, value = _LITERALS[first]
        start = self._at
        for expected in word:
            if self._octet() != expected:
                raise self._fault(f"in literal {word.decode()} (expecting {_quoted(expected)})")
            self._at += 1
        return Node(kind, self._data[start : self._at], str(value))

    def _number(self) -> Node:
        start = self._at
        match = _NUMBER.match(self._data, start)
        if match is None:
            self._at += 1
            raise self._fault("in numeric literal")
        self._at = match.end()
        text = match[0]
        octet = chr(self._octet() or 0)
        if octet == "." and not re.search(rb"[.eE]", text):
            self._at += 1
            raise self._fault("after decimal point in numeric literal")
        if octet in "eE" and not re.search(rb"[eE]", text):
            self._at += 2 if self._data[self._at + 1 : self._at + 2] in (b"+", b"-") else 1
            raise self._fault("in exponent of numeric literal")
        return Node("number", text, text.decode())

    def _skip_space(self) -> None:
        while self._at < len(self._data) and self._data[self._at] in _SPACE:
            self._at += 1

    def _octet(self) -> int | None:
        return self._data[self._at] if self._at < len(self._data) else None

    def _peek(self) -> int | None:
        self._skip_space()
        return self._octet()

    def _next(self, context: str) -> int:
        octet = self._peek()
        if octet is None:
            raise self._fault(context)
        return octet

    def _fault(self, context: str) -> GoJSONError:
        octet = self._octet()
        if octet is None:
            return GoJSONError("unexpected EOF")
        return GoJSONError(f"invalid character {_quoted(octet)} {context}")


_SHORT = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 0x27: "\\'", 0x5C: "\\\\"}


def _quoted(octet: int) -> str:
    """Quote an octet as Go quotes the code point of the same number."""
    if octet in _SHORT:
        return f"'{_SHORT[octet]}'"
    if octet < 0x20 or octet == 0x7F:
        return f"'\\x{octet:02x}'"
    if 0x80 <= octet <= 0xA0 or octet == 0xAD:
        return f"'\\u{octet:04x}'"
    return f"'{chr(octet)}'"


def encode(value: object) -> str:
    """Write compactly, with Go's escapes of HTML; mappings keep their order."""
    if isinstance(value, str):
        return _UNSAFE.sub(lambda found: _HTML[found[0]], _write(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{encode(key)}:{encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return _write(value)


def to_plain(node: Node) -> object:
    """Turn a value into what Go's ``interface{}`` would hold, keys sorted; raise GoJSONError.

    A number too large for a double is the one well-formed value that Go cannot hold.
    """
    if node.kind == "object":
        pairs = {key: to_plain(item) for key, item in node.pairs}
        return dict(sorted(pairs.items(), key=lambda pair: pair[0].encode()))
    if node.kind == "array":
        return [to_plain(item) for item in node.items]
    if node.kind == "number":
        number = float(node.text)
        if number in (float("inf"), float("-inf")):
            raise GoJSONError(f"json: cannot unmarshal number {node.text} into Go value of type float64")
        return number
    return {"True": True, "False": False, "None": None}[node.text] if node.kind != "string" else node.text
