"""How a request body becomes what a handler works with. Knows no HTTP, no storage, no versions."""

from __future__ import annotations

from dataclasses import dataclass, field

from blnkctl.sandbox import gojson, gotime
from blnkctl.sandbox.gojson import GoJSONError, Node

_STRUCT = "CreateAPIKeyRequest"
# Go folds case by Unicode's simple rules, under which these two are s and k.
_FOLDS = str.maketrans({"ſ": "s", "\u212a": "k"})


class BindError(ValueError):
    """A body that a handler refuses; the text is Go's parser's or validator's."""


class HandlerPanicError(Exception):
    """A body on which the real handler panics: the answer is a bare 500."""


@dataclass
class CreateRequest:
    """The four fields of ``POST /api-keys``; None where the body left them out."""

    name: str = ""
    scopes: list[str] | None = None
    owner: str = ""
    expires_at: gotime.GoTime | None = None
    _mismatch: str | None = field(default=None, repr=False)

    def note_mismatch(self, node: Node, name: str, wanted: str) -> None:
        """Keep the first wrong type: Go reads on and reports it at the end."""
        if self._mismatch is None:
            self._mismatch = (
                f"json: cannot unmarshal {node.kind} into Go struct field {_STRUCT}.{name} of type {wanted}"
            )

    def check(self) -> None:
        if self._mismatch is not None:
            raise BindError(self._mismatch)
        missing = [
            ("Name", not self.name),
            ("Scopes", self.scopes is None),
            ("Owner", not self.owner),
            ("ExpiresAt", self.expires_at is None or self.expires_at.is_zero),
        ]
        lines = [_required(name) for name, is_missing in missing if is_missing]
        if lines:
            raise BindError("\n".join(lines))


def _required(name: str) -> str:
    return f"Key: '{_STRUCT}.{name}' Error:Field validation for '{name}' failed on the 'required' tag"


def bind_create(body: bytes, limit: int | None) -> CreateRequest:
    """Read the body of ``POST /api-keys``; raise BindError."""
    request = CreateRequest()
    for key, node in bind_object(body, limit, f"model.{_STRUCT}"):
        _set(request, key.translate(_FOLDS).lower(), node)
    request.check()
    return request


def bind_object(body: bytes, limit: int | None, type_name: str) -> list[tuple[str, Node]]:
    """Read an object of the named Go type; null counts as an empty one. Raise BindError."""
    try:
        node, _ = gojson.parse(body if limit is None else body[:limit])
    except GoJSONError as error:
        if limit is not None and len(body) > limit and str(error).endswith("EOF"):
            raise BindError("http: request body too large") from None
        raise BindError(str(error)) from None
    if node.kind not in ("object", "null"):
        raise BindError(f"json: cannot unmarshal {node.kind} into Go value of type {type_name}")
    return node.pairs


def _set(request: CreateRequest, name: str, node: Node) -> None:
    if name in ("name", "owner"):
        _set_text(request, name, node)
    elif name == "scopes":
        _set_scopes(request, node)
    elif name == "expires_at" and node.kind != "null":
        request.expires_at = _time(node)


def _set_text(request: CreateRequest, name: str, node: Node) -> None:
    if node.kind == "string":
        setattr(request, name, node.text)
    elif node.kind != "null":
        request.note_mismatch(node, name, "string")


def _set_scopes(request: CreateRequest, node: Node) -> None:
    if node.kind == "null":
        request.scopes = None
    elif node.kind != "array":
        request.note_mismatch(node, "scopes", "[]string")
    else:
        for item in node.items:
            if item.kind not in ("string", "null"):
                request.note_mismatch(item, "scopes", "string")
        request.scopes = [item.text if item.kind == "string" else "" for item in node.items]


def _time(node: Node) -> gotime.GoTime:
    """Unlike a wrong type elsewhere, a bad time ends the reading at once."""
    if node.kind != "string":
        raise BindError("Time.UnmarshalJSON: input is not a JSON string")
    try:
        return gotime.parse(node.raw[1:-1])
    except gotime.GoTimeError as error:
        raise BindError(str(error)) from None


def stamp(body: bytes, key_id: str) -> bytes:
    """Put a scoped key's id into ``meta_data``, as the middleware does with every POST.

    The body is rewritten with sorted keys; one that is no single object stays as it is.
    Raise HandlerPanicError for ``null``, where the real middleware writes into a nil map.
    """
    try:
        node, end = gojson.parse(body)
        if body[end:].strip(b" \t\r\n") or node.kind not in ("object", "null"):
            return body
        plain = gojson.to_plain(node)
    except GoJSONError:
        return body
    if not isinstance(plain, dict):
        raise HandlerPanicError
    meta = plain.get("meta_data")
    stamped = {**(meta if isinstance(meta, dict) else {}), "BLNK_GENERATED_BY": key_id}
    plain["meta_data"] = dict(sorted(stamped.items()))
    return gojson.encode(dict(sorted(plain.items(), key=lambda pair: pair[0].encode()))).encode()
