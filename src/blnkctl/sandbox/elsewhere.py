"""Every endpoint but ``/api-keys``: which version has it, and what it says on an empty ledger.

The answers in ``answers.json`` were taken from real servers. Nothing is stored: a ledger or identity
that was created is forgotten at once. Knows no keys and no HTTP.
"""

from __future__ import annotations

import functools
import json
import random
import re
import uuid
from dataclasses import dataclass
from importlib import resources
from typing import TypedDict

from blnkctl.sandbox import binding, gojson
from blnkctl.sandbox.gojson import Node
from blnkctl.sandbox.replies import JSON, Reply
from blnkctl.sandbox.routes import Match
from blnkctl.sandbox.versions import Version, parse_version


class _Answer(TypedDict, total=False):
    since: str
    status: int
    body: str
    type: str | None


class _Complete(TypedDict):
    needs: list[str]
    answers: list[_Answer]


class _Route(TypedDict, total=False):
    method: str
    path: str
    since: str
    until: str  # the first version without it
    binds: str  # the Go type that the body is read into
    may_be_empty: bool
    malformed: list[_Answer]
    complete: _Complete  # for a body that holds all these fields
    answers: list[_Answer]


@dataclass(frozen=True)
class Scene:
    """What the answers mention: the times, as they are to be written, and the limit on a body."""

    now: str
    born: str
    body_limit: int | None


@functools.cache
def _routes() -> tuple[_Route, ...]:
    text = resources.files("blnkctl.sandbox").joinpath("answers.json").read_text("utf-8")
    return tuple(json.loads(text))


def routes_of(version: Version) -> list[tuple[str, str]]:
    """Return method and pattern of each route that a version has."""
    return [(route["method"], route["path"]) for route in _routes() if _has(route, version)]


def _has(route: _Route, version: Version) -> bool:
    gone = route.get("until")
    return parse_version(route["since"]) <= version and (gone is None or version < parse_version(gone))


def answer(method: str, match: Match, body: bytes, version: Version, scene: Scene) -> Reply:
    """Answer as a server of that version with an empty ledger does."""
    route = next(route for route in _routes() if (route["method"], route["path"]) == (method, match.pattern))
    said = _Said(match.parameters, scene)
    if "binds" not in route or (route.get("may_be_empty") and not body.strip()):
        return said.reply(route["answers"], version)
    try:
        pairs = dict(binding.bind_object(body, scene.body_limit, route["binds"]))
    except binding.BindError as error:
        said.fault = str(error)
        return said.reply(route["malformed"], version)
    said.pairs = pairs
    complete = route.get("complete")
    if complete is not None and all(_filled(pairs.get(name)) for name in complete["needs"]):
        return said.reply(complete["answers"], version)
    return said.reply(route["answers"], version)


def _filled(node: Node | None) -> bool:
    return node is not None and (node.text != "" if node.kind == "string" else node.pairs != [])


class _Said:
    """Fills in what differs from request to request: ``<id>``, ``<now>``, ``<fault>`` and so on."""

    def __init__(self, parameters: dict[str, str], scene: Scene) -> None:
        self._parameters = parameters
        self._scene = scene
        self.fault = ""
        self.pairs: dict[str, Node] = {}

    def reply(self, answers: list[_Answer], version: Version) -> Reply:
        fitting = [item for item in answers if parse_version(item["since"]) <= version]
        chosen = fitting[-1]
        body = re.sub(r"<([\w.-]+)>", lambda found: self._value(found[1]), chosen["body"])
        return Reply(chosen["status"], body, chosen.get("type", JSON))

    def _value(self, name: str) -> str:
        if name in self._parameters:
            return _inner(self._parameters[name])
        if name.startswith("body."):
            return _inner(self.pairs[name.removeprefix("body.")].text)
        if name == "meta":
            meta = self.pairs.get("meta_data")
            return gojson.encode(gojson.to_plain(meta)) if meta is not None else "null"
        return self._made(name)

    def _made(self, name: str) -> str:
        if name == "uuid":
            return str(uuid.uuid4())
        if name == "account":
            return str(random.randrange(10**11, 10**12))  # noqa: S311 - a made-up account number
        if name == "general":
            return _GENERAL_LEDGER.replace("<born>", self._scene.born)
        return {"now": self._scene.now, "fault": _inner(self.fault)}[name]


_GENERAL_LEDGER = '{"ledger_id":"general_ledger_id","name":"General Ledger","created_at":"<born>","meta_data":{}}'


def _inner(text: str) -> str:
    """Encode for the inside of a JSON string."""
    return gojson.encode(text)[1:-1]
