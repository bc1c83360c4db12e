"""Blnk's JSON, read with plain code: on the hot path a validation library would double a short command's time.

The `key` field of a listed row is secret material: it is classified here and goes no further, but to whoever asks
for it by name, masked (`read_stored_list`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec, StorageScheme, classify_stored_form, is_key_id
from blnkctl.domain.secret import Secret
from blnkctl.domain.times import BEGINNING, parse_timestamp
from blnkctl.system.json_stream import JsonStream

if TYPE_CHECKING:
    from blnkctl.domain.stored_forms import StoredForm

Row = TypeVar("Row")
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class NotBlnks(ValueError):
    """An answer of another shape than Blnk's. The text says how, without quoting it."""


def read_key_list(chunks: Iterable[bytes]) -> Iterator[ApiKey]:
    """Yield the rows of a list answer as its bytes arrive; `null` is an empty list.

    Raises:
        NotBlnks: the document is cut, is not JSON, or is no list of keys; rows before that were yielded.
    """
    return _read_list(chunks, read_listed_key)


def read_stored_list(chunks: Iterable[bytes]) -> "Iterator[tuple[ApiKey, StoredForm]]":
    """Yield the rows of a list answer, each with its stored form.

    Raises:
        NotBlnks: as `read_key_list` does, and for a row without its stored form.
    """
    return _read_list(chunks, read_stored_key)


def _read_list(chunks: Iterable[bytes], read: Callable[[object], Row]) -> Iterator[Row]:
    stream = JsonStream(chunks, NotBlnks)
    first = stream.peek()
    if first == "n":
        stream.expect("null")
    elif first == "[":
        yield from (read(element) for element in stream.elements())
    else:
        raise NotBlnks("is not a list of keys")
    if stream.peek():
        raise NotBlnks("goes on after its end")


def read_listed_key(record: object) -> ApiKey:
    """Read one row of a list.

    Raises:
        NotBlnks: a field is missing or of another type.
    """
    fields = _as_object(record)
    stored = fields.get("key")
    scheme = classify_stored_form(stored) if isinstance(stored, str) else StorageScheme.UNKNOWN
    return _read_key(fields, scheme)


def read_stored_key(record: object) -> "tuple[ApiKey, StoredForm]":
    """Read one row of a list, and its stored form.

    Raises:
        NotBlnks: a field is missing or of another type.
    """
    from blnkctl.domain.stored_forms import stored_form  # here, as no list but this one compares anything

    fields = _as_object(record)
    form = stored_form(_text(fields, "key"))
    return _read_key(fields, form.scheme), form


def read_created_key(document: object) -> IssuedKey:
    """Read the answer to a create: the row and its plain text.

    Raises:
        NotBlnks: it is no key.
    """
    fields = _as_object(document)
    plain = _text(fields, "key")
    if not plain or not plain.isascii() or not plain.isprintable() or plain != plain.strip():
        raise NotBlnks("without a usable key")
    return IssuedKey(_read_key(fields, StorageScheme.UNKNOWN), Secret(plain))


def named_id(document: object) -> str | None:
    """Return the id that a create's answer names, however odd the rest is."""
    id_ = document.get("api_key_id") if isinstance(document, dict) else None
    return id_ if isinstance(id_, str) and is_key_id(id_) else None


def _as_object(record: object) -> dict[str, object]:
    if not isinstance(record, dict):
        raise NotBlnks("holds something that is no key")
    return record


def _read_key(fields: dict[str, object], scheme: StorageScheme) -> ApiKey:
    id_ = _text(fields, "api_key_id")
    if not is_key_id(id_):
        raise NotBlnks("holds a key whose id is not one of Blnk's")
    revoked_at = _moment(fields, "revoked_at") if fields.get("revoked_at") is not None else None
    return ApiKey(
        id=id_,
        name=_text(fields, "name"),
        owner=_text(fields, "owner_id"),
        scopes=_scopes(fields),
        expires_at=_moment(fields, "expires_at") or BEGINNING,
        created_at=_moment(fields, "created_at") or BEGINNING,
        last_used_at=_moment(fields, "last_used_at"),
        is_revoked=_flag(fields, "is_revoked"),
        revoked_at=revoked_at,
        scheme=scheme,
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not _is_text(value):
        raise NotBlnks(f"holds a key whose {name} is no text")
    return value


def _is_text(value: object) -> TypeGuard[str]:
    """Tell whether this can be written as UTF-8: JSON's escapes can spell half a character."""
    return isinstance(value, str) and _HALF_A_CHARACTER.search(value) is None


def _flag(fields: dict[str, object], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise NotBlnks(f"holds a key whose {name} is neither true nor false")
    return value


def _scopes(fields: dict[str, object]) -> tuple[str, ...]:
    value = fields.get("scopes")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(_is_text(scope) for scope in value):
        raise NotBlnks("holds a key whose scopes are no list of texts")
    return tuple(value)


def _moment(fields: dict[str, object], name: str) -> datetime | None:
    try:
        return parse_timestamp(_text(fields, name))
    except ValueError:
        raise NotBlnks(f"holds a key whose {name} is no time") from None


def difference(asked: KeySpec, got: ApiKey) -> str | None:
    """Tell in what a created key differs from what was asked for, or None. Create echoes what was asked."""
    if got.is_revoked:
        return "for a key that is revoked"
    for field in ("name", "owner", "scopes", "expires_at"):
        if getattr(asked, field) != getattr(got, field):
            return f"for a key with another {field.replace('_', ' ')} than asked for"
    return None
