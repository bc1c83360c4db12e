"""Plan files: written item by item, read item by item, so that twenty thousand cost no more memory than ten.

Owns the format and what is wrong with a file. It is checked whole before anything is done with it: people edit it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from blnkctl.domain.errors import StoreUnavailable, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme, is_key_id
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.plans import PLAN_KIND, PLAN_VERSION, Action, PlanDigest, PlanHeader, PlanItem
from blnkctl.domain.scopes import check_typed_scopes
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.times import format_timestamp, parse_moment, parse_timestamp
from blnkctl.system.files import ensure_private_directory, write_atomically
from blnkctl.system.json_stream import JsonStream

Record = Mapping[str, Any]
_AT_ONCE = 1 << 16
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # JSON can spell it; no server holds it, and no request carries it
_ROOT = PurePath("/")
_OURS = "Review it, and make it yours alone: copy it, or chmod go-w."
_GENERATIONS = {one.label: one for one in Generation}


@dataclass(slots=True)
class CheckedPlan:
    """A `Plan` in a file."""

    path: Path
    header: PlanHeader
    digest: str
    recreated: int
    content: str

    def check_unchanged(self) -> None:
        """Know that the file is what was checked, edits that are allowed among it.

        Raises:
            UsageError: it was edited meanwhile (`plan_changed`).
        """
        if _content_of(self.path) != self.content:
            raise UsageError(
                f"{self.path} was edited while it was looked at. Nothing was sent.",
                code="plan_changed",
                hint="Run it again, to see what it is now.",
            )

    def items(self) -> Iterator[PlanItem]:
        """Yield the items, read anew.

        Raises:
            UsageError: the file is no plan any more.
        """
        for name, value in _members(self.path):
            if name == "items":
                assert isinstance(value, Iterator)
                yield from (_item(number, record) for number, record in enumerate(value, 1))


def new_plan_path(directory: Path, now: datetime) -> Path:
    """Return where a plan is written that nobody named a file for, in a directory of ours.

    Raises:
        StoreUnavailable: there can be none.
    """
    try:
        ensure_private_directory(directory)
    except OSError as error:
        raise _not_written(directory, error) from None
    return directory / f"{now:%Y-%m-%dT%H%M%S}Z.json"


def write_plan(path: Path, header: PlanHeader, items: Iterable[Record]) -> str:
    """Write a plan whole or not at all, 0600; return its digest.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    digests: list[str] = []
    try:
        write_atomically(path, (text.encode() for text in plan_texts(header, items, digests.append)))
    except OSError as error:
        raise _not_written(path, error) from None
    return digests[0]


def _not_written(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"The plan {path} could not be written: {error.strerror or error}. Nothing was sent.",
        code="plan_not_written",
        hint="Mend that, or name another file with --out.",
    )


def plan_texts(header: PlanHeader, items: Iterable[Record], take_digest: Callable[[str], None]) -> Iterator[str]:
    """Yield the text of a plan: one line an item, so that it can be reviewed as a difference."""
    top = header_record(header)
    digest = PlanDigest()
    yield "{\n" + "".join(f'  "{name}": {json.dumps(value)},\n' for name, value in top.items()) + '  "items": ['
    separator = "\n    "
    for item in items:
        digest.add(item)
        yield f"{separator}{json.dumps(item)}"
        separator = ",\n    "
    take_digest(digest.text_under(top))
    yield f'\n  ],\n  "digest": "{digest.text_under(top)}"\n}}\n'


def plan_document(header: PlanHeader, items: Iterable[Record]) -> dict[str, object]:
    """Return a plan as one value, as its file would hold it."""
    document: dict[str, object] = json.loads("".join(plan_texts(header, items, lambda _digest: None)))
    return document


def header_record(header: PlanHeader) -> dict[str, object]:
    """Return what a plan says of itself."""
    return {
        "kind": PLAN_KIND,
        "version": PLAN_VERSION,
        "server": {"url": header.url, "generation": header.generation.label},
        "for_core": header.for_core,
        "created_at": format_timestamp(header.created_at),
    }


def read_plan(path: Path) -> CheckedPlan:
    """Read a plan to its end, and check all that is to be known before anything is sent.

    Raises:
        UsageError: it is none, is cut short, newer than this version, or was edited where it may not be (`bad_plan`).
    """
    found: dict[str, Any] = {}
    reading = _Reading()
    content = _content_of(path)
    for name, value in _members(path):
        if isinstance(value, Iterator):
            _refuse_newer(path, found)
            reading.read(value)
        else:
            found[name] = value
    header = _header(path, found)
    if not reading.has_items:
        raise _bad(f"{path} has no items")
    if found.get("digest") != reading.digest(header):
        raise UsageError(
            f"{path} was edited where a plan may not be: its digest does not fit. Nothing was sent.",
            code="plan_changed",
            hint="Only action, new.scopes, new.expires_at and sinks may be edited. Plan again: blnkctl migrate plan",
        )
    return CheckedPlan(path, header, str(found["digest"]), reading.recreated, content)


class _Reading:
    """What is counted and compared while the items pass by."""

    def __init__(self) -> None:
        self.recreated = 0
        self.has_items = False
        self._ids: set[str] = set()
        self._digest = PlanDigest()

    def read(self, records: Iterator[object]) -> None:
        """Check each item, and take it into the digest."""
        self.has_items = True
        for number, record in enumerate(records, 1):
            item = _item(number, record)
            if item.key.id in self._ids:
                raise _bad(f"Item {number} is {item.key.id} once more")
            self._ids.add(item.key.id)
            assert isinstance(record, Mapping)
            self._digest.add(record)
            self.recreated += int(item.action is Action.RECREATE)

    def digest(self, header: PlanHeader) -> str:
        """Return the digest of what was read under a header."""
        return self._digest.text_under(header_record(header))


def _members(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the members of the document; `items` as an iterator, to be exhausted before the next."""
    stream = JsonStream(_chunks(path), lambda what: _bad(f"{path} {what}"))
    if stream.peek() != "{":
        raise _bad(f"{path} is no plan")
    stream.expect("{")
    while stream.peek() != "}":
        name = stream.take_value()
        stream.expect(":")
        if name == "items" and stream.peek() == "[":
            yield "items", stream.elements()
        else:
            yield str(name), stream.take_value()
        if stream.peek() != "}":
            stream.expect(",")
    stream.expect("}")
    if stream.peek():
        raise _bad(f"{path} goes on after its end")


def _content_of(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        with os.fdopen(descriptor, "rb") as file:
            _refuse_anybodys(path, os.fstat(descriptor))
            while chunk := file.read(_AT_ONCE):
                yield chunk
    except OSError as error:
        raise _bad(f"{path} cannot be read ({error.strerror})") from None


def _refuse_anybodys(path: Path, status: os.stat_result) -> None:
    """Refuse a file that another user may have written: a plan says which programs are given secrets."""
    if not stat.S_ISREG(status.st_mode):
        raise _bad(f"{path} is no regular file, and is read more than once")
    if status.st_uid not in (0, os.geteuid()):
        raise _bad(f"{path} belongs to another user (uid {status.st_uid}), who decides what it runs", _OURS)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise _bad(f"others can write {path} (mode {mode:04o}), and so decide what it runs", _OURS)


# --- header -------------------------------------------------------------------------------------


def _header(path: Path, found: Record) -> PlanHeader:
    if found.get("kind") != PLAN_KIND:
        raise _bad(f"{path} is no plan: its kind is not {PLAN_KIND}")
    _refuse_newer(path, found)
    server = found.get("server")
    generation = _GENERATIONS.get(str(server.get("generation"))) if isinstance(server, dict) else None
    if found.get("version") != PLAN_VERSION or not isinstance(server, dict) or generation is None:
        raise _bad(f"{path} does not say which server it is for")
    for_core = found.get("for_core")
    if for_core is not None:
        Generation.of_version(str(for_core))
    return PlanHeader(str(server.get("url")), generation, for_core, _time(found.get("created_at"), "created_at"))


def _refuse_newer(path: Path, found: Record) -> None:
    """Say so before the items are read, which may be of a form that is not known here."""
    version = found.get("version")
    if isinstance(version, int) and version > PLAN_VERSION:
        raise UsageError(
            f"{path} was made by a newer blnkctl (plan version {version}). Nothing was sent.",
            code="plan_newer",
            hint="Use that newer blnkctl, or plan again with this one: blnkctl migrate plan",
        )


# --- items --------------------------------------------------------------------------------------


def _item(number: int, record: object) -> PlanItem:
    """Read an item; what people may edit is checked as what they type is."""
    try:
        return _read_item(record)
    except _Wrong as wrong:
        raise _bad(f"Item {number}{_named(record)}: {wrong}") from None
    except UsageError as problem:
        said = problem.message.rstrip(".").removesuffix("; nothing was sent").removesuffix(". Nothing was sent")
        raise _bad(f"Item {number}{_named(record)}: {said}", problem.hint) from None


class _Wrong(Exception):
    """What is wrong with an item."""


def _named(record: object) -> str:
    key = record.get("key") if isinstance(record, dict) else None
    name = key.get("id") if isinstance(key, dict) else None
    return f" ({escape_unsafe(name)[:60]})" if isinstance(name, str) else ""


def _read_item(record: object) -> PlanItem:
    if not isinstance(record, dict):
        raise _Wrong("it is no object")
    key, status = _key(record.get("key"))
    new = record.get("new")
    if record.get("action") not in list(Action):
        raise _Wrong(f"its action is none of {', '.join(Action)}")
    if not isinstance(new, dict) or new.get("name") != key.name:
        raise _Wrong("its new name is not that of the key: a new name would lose the lineage")
    item = PlanItem(
        key=key,
        action=Action(record["action"]),
        reason=_text(record, "reason"),
        scopes=_new_scopes(new, key),
        expires_at=_new_expiry(new, key),
        sinks=tuple(dict.fromkeys(_sink(text) for text in _texts(record, "sinks"))),
    )
    if item.action is Action.RECREATE:
        _check_recreated(item, status)
    return item


def _check_recreated(item: PlanItem, status: KeyStatus) -> None:
    if item.key.is_revoked or status is KeyStatus.REVOKED:
        raise _Wrong("it is revoked, and what was revoked is not recreated")
    if not item.key.can_be_made:
        raise _Wrong("it has no owner or no name, and no server makes such a key")
    if item.expires_at <= item.key.created_at:
        raise _Wrong("its new.expires_at is past")


def _new_scopes(new: Record, key: ApiKey) -> tuple[str, ...]:
    """Return the scopes: copied byte for byte, or edited and then checked."""
    scopes = _texts(new, "scopes")
    return scopes if scopes == key.scopes else check_typed_scopes(scopes).scopes


def _new_expiry(new: Record, key: ApiKey) -> datetime:
    text = new.get("expires_at")
    if text == format_timestamp(key.expires_at.replace(microsecond=0)):
        return key.expires_at.replace(microsecond=0)
    if not isinstance(text, str) or "-" not in text:  # a duration: from when on?
        raise _Wrong("its new.expires_at is no date and no time, such as 2027-06-30T12:00:00Z")
    return parse_moment(text, flag="new.expires_at", now=key.created_at).replace(microsecond=0)


def _sink(text: str) -> str:
    """Return a sink that means the same in every directory: a plan is gone on with from another one."""
    sink = parse_sink(text)
    if sink.anchored(_ROOT, _ROOT) != sink:
        raise _Wrong(f"its sink {text} has no whole path")
    return str(sink)


def _key(record: object) -> tuple[ApiKey, KeyStatus]:
    if not isinstance(record, dict) or not is_key_id(str(record.get("id"))):
        raise _Wrong("its key has no id")
    try:
        scheme, status = StorageScheme(str(record.get("storage_scheme"))), KeyStatus(str(record.get("status")))
    except ValueError:
        raise _Wrong("its key has an unknown storage_scheme or status") from None
    revoked_at = _moment(record, "revoked_at")
    key = ApiKey(
        id=str(record["id"]),
        name=_text(record, "name"),
        owner=_text(record, "owner"),
        scopes=_texts(record, "scopes"),
        expires_at=_time(record.get("expires_at"), "key.expires_at"),
        created_at=_time(record.get("created_at"), "key.created_at"),
        last_used_at=_moment(record, "last_used_at"),
        is_revoked=revoked_at is not None,
        revoked_at=revoked_at,
        scheme=scheme,
    )
    return key, status


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    if not _is_text(value):
        raise _Wrong(f"its {name} is no text")
    return value


def _texts(record: Record, name: str) -> tuple[str, ...]:
    value = record.get(name)
    if not isinstance(value, list) or not all(_is_text(one) for one in value):
        raise _Wrong(f"its {name} is no list of texts")
    return tuple(value)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _NO_TEXT.search(value) is None


def _moment(record: Record, name: str) -> datetime | None:
    return None if record.get(name) is None else _time(record[name], name)


def _time(value: object, name: str) -> datetime:
    try:
        moment = parse_timestamp(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise _Wrong(f"its {name} is no time")
    return moment


def _bad(what: str, hint: str | None = None) -> UsageError:
    return UsageError(
        f"{what}. Nothing was sent.",
        code="bad_plan",
        hint=hint or "Correct the plan, or make it anew: blnkctl migrate plan --out PLAN",
    )
