"""Plays recorded exchanges against an emulator. Knows which parts of an answer differ from run to run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blnkctl.sandbox import Emulator, RateLimit, Response, SandboxOptions

ADMIN_KEY = "master-key-for-recordings"
TESTS = Path(__file__).parent.parent
RECORDINGS = sorted([*TESTS.glob("contract/*.json"), *TESTS.glob("sandbox/recorded/*.json")])

_HEADERS = {
    "cache-control",
    "connection",
    "content-security-policy",
    "content-type",
    "location",
    "ratelimit-limit",
    "ratelimit-reset",
    "referrer-policy",
    "transfer-encoding",
    "x-content-type-options",
    "x-frame-options",
    "x-rate-limit-duration",
    "x-rate-limit-limit",
}
_MASKS = [
    (r'"last_used_at":"[^"]*"', '"last_used_at":ANY'),
    (r'"(created_at|revoked_at)":"\d{4}-[^"]*Z"', r'"\1":TIME'),
    (r'"key":"[^"]*"', '"key":KEY'),
    (r'"account_number":"\d{12}"', '"account_number":NUMBER'),
    (r'"(ldg|bulk|idt)_[0-9a-f-]{36}"', r'"\1_UUID"'),
]


@dataclass
class Player:
    """Sends the requests of one or more recordings, old ids and keys replaced by the new ones."""

    pause: Callable[[], None] = lambda: None
    renamed: dict[str, str] = field(default_factory=dict)

    def differences(self, recording: Path, emulator: Emulator) -> list[str]:
        exchanges = json.loads(recording.read_text("utf-8"))["exchanges"]
        found = [self._difference(exchange, emulator, "limited" in recording.name) for exchange in exchanges]
        return [text for text in found if text]

    def _difference(self, exchange: dict[str, Any], emulator: Emulator, is_limited: bool) -> str:
        if exchange["name"].startswith("after 1.1 s"):
            self.pause()
        request, wanted = exchange["request"], exchange["response"]
        got = self._send(request, emulator)
        self._learn(wanted, got)
        expected = (wanted["status"], _masked(self._new(wanted["body"])), _headers(wanted["headers"], is_limited))
        actual = (got.status, _masked(got.body.decode()), _headers(dict(got.headers), is_limited))
        if expected == actual:
            return ""
        title = f"{exchange['name']}: {request['method']} {request['path']} {request['body']!r:.200}"
        return f"{title}\n  recorded {expected}\n  emulated {actual}"

    def _send(self, request: dict[str, Any], emulator: Emulator) -> Response:
        headers = {name: self._new(value) for name, value in request["headers"].items()}
        body = self._new(request["body"] or "").encode("utf-8", "surrogatepass")
        return emulator.answer(request["method"], self._new(request["path"]), headers, body)

    def _learn(self, wanted: dict[str, Any], got: Response) -> None:
        if wanted["status"] == got.status == 201 and '"api_key_id"' in wanted["body"]:
            old, new = json.loads(wanted["body"]), json.loads(got.body)
            self.renamed |= {old["api_key_id"]: new["api_key_id"], old["key"]: new["key"]}

    def _new(self, text: str) -> str:
        if not self.renamed:
            return text
        pattern = "|".join(map(re.escape, self.renamed))
        return re.sub(pattern, lambda found: self.renamed[found[0]], text)


def _masked(body: str) -> str:
    for pattern, replacement in _MASKS:
        body = re.sub(pattern, replacement, body)
    return body


def _headers(headers: dict[str, str], is_limited: bool) -> dict[str, str]:
    wanted = _HEADERS | ({"ratelimit-remaining"} if is_limited else set())
    return {name.lower(): value for name, value in headers.items() if name.lower() in wanted}


def options_for(recording: Path, data: Path | None = None) -> SandboxOptions:
    """Return the options under which a recording was taken."""
    return SandboxOptions(
        core=json.loads(recording.read_text("utf-8"))["core"],
        admin_key=ADMIN_KEY,
        data=data,
        rate_limit=RateLimit(5, 8) if recording.name.startswith("limited") else None,
        insecure=recording.name.startswith("insecure"),
        fast=True,
    )
