"""How values look outside: the JSON documents and the columns of the contract. No terminal, no colour."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import mask_keys
from blnkctl.domain.times import format_timestamp

if TYPE_CHECKING:
    from blnkctl.domain.receipts import Receipt
    from blnkctl.usecases.views import KeyView

VERSION = 1
KEY_COLUMNS = (
    "id",
    "owner",
    "name",
    "status",
    "expires_at",
    "created_at",
    "last_used_at",
    "scopes",
    "stored",
    "storage_scheme",
)
Record = dict[str, object]


def key_record(view: "KeyView") -> Record:
    """Return a key's JSON object. `secret` appears only where it was asked for."""
    key, known = view.key, view.known
    record: Record = {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "status": str(view.status),
        "expires_at": format_timestamp(key.expires_at),
        "created_at": format_timestamp(key.created_at),
        "last_used_at": time_or_none(key.last_used_at),
        "revoked_at": time_or_none(key.revoked_at),
        "superseded_by": view.superseded_by,
        "storage_scheme": str(key.scheme),
        "stored": view.is_stored,
        "store": known.store if known is not None else None,
        "fingerprint": known.fingerprint if known is not None else None,
        "sinks": [_sink_record(receipt) for receipt in view.receipts],
        "context": view.context,
    }
    if view.secret is not None:
        record["secret"] = view.secret.reveal()
    return record


def _sink_record(receipt: "Receipt") -> Record:
    delivered_at = format_timestamp(receipt.delivered_at)
    return {"sink": receipt.sink, "delivered_at": delivered_at, "verified": receipt.verified}


def time_or_none(moment: datetime | None) -> str | None:
    """Return a time stamp, or None for never."""
    return None if moment is None else format_timestamp(moment)


def error_record(error: BlnkctlError) -> Record:
    """Return an error's JSON object."""
    told = {"message": error.message, "hint": error.hint, "target": error.target}
    return {"code": error.code} | {name: None if text is None else mask_keys(text) for name, text in told.items()}


def document(
    command: str,
    data: object,
    errors: Sequence[BlnkctlError],
    coverage: Record | None = None,
    *,
    partial: bool = False,
) -> str:
    """Return the one JSON document of a command. ASCII only: what a server named cannot reach a terminal raw."""
    status = "ok" if not errors else ("partial" if partial else "error")
    envelope: Record = {"version": VERSION, "command": command, "data": data, "status": status}
    if coverage is not None:
        envelope["coverage"] = coverage
    envelope["errors"] = [error_record(error) for error in errors]
    return json.dumps(envelope, indent=2)


def cell(value: object) -> str:
    """Return one value of a record as the text of a column: null is empty, a key is its id, lists have commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return str(value["id"]) if "id" in value else json.dumps(value)
    if isinstance(value, list):
        return ",".join(cell(item) for item in value)
    return str(value)


def tsv_line(values: Iterable[object]) -> str:
    """Return one line of tsv; backslash, tab, newline and controls are escaped."""
    return "\t".join(escape_unsafe(cell(value)) for value in values)


def csv_text(values: Iterable[object]) -> str:
    """Return one line of csv, quoted where need be, escaped as tsv is."""
    return ",".join(_quoted(escape_unsafe(cell(value))) for value in values)


def _quoted(text: str) -> str:
    if any(character in text for character in ',"') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
