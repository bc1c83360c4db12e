"""Short words for what the tests ask an emulator. Knows nothing of how it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blnkctl.sandbox import Emulator, RateLimit, Response, SandboxOptions

ADMIN_KEY = "the-admin-key"
EXPIRY = "2027-06-13T00:00:00Z"


@dataclass
class Time:
    """A clock that stands still until it is told to move."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
    seconds: float = 1_000.0

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


class Client:
    """An emulator and the requests that the tests make of it."""

    def __init__(
        self,
        core: str = "0.15.2",
        *,
        data: Path | None = None,
        load_csv: Path | None = None,
        replicas: int = 1,
        rate_limit: RateLimit | None = None,
        insecure: bool = False,
        fast: bool = True,
    ) -> None:
        self.time = Time()
        self.emulator = Emulator(
            SandboxOptions(
                core=core,
                admin_key=ADMIN_KEY,
                data=data,
                load_csv=load_csv,
                replicas=replicas,
                rate_limit=rate_limit,
                insecure=insecure,
                fast=fast,
            ),
            clock=lambda: self.time.now,
            monotonic=lambda: self.time.seconds,
        )

    def ask(self, method: str, path: str, key: str = ADMIN_KEY, body: str = "") -> Response:
        return self.emulator.answer(method, path, {"X-Blnk-Key": key}, body.encode())

    def create(self, *scopes: str, owner: str = "alice", name: str = "k", expires_at: str = EXPIRY) -> dict[str, Any]:
        fields = {"name": name, "owner": owner, "scopes": scopes, "expires_at": expires_at}
        return dict(as_json(self.ask("POST", "/api-keys", body=json.dumps(fields))))

    def key(self, *scopes: str, owner: str = "alice") -> str:
        return str(self.create(*(scopes or ("*:*",)), owner=owner)["key"])

    def listed(self, owner: str = "alice") -> list[dict[str, Any]]:
        return as_json(self.ask("GET", f"/api-keys?owner={owner}")) or []

    def probe(self, key: str) -> tuple[int, str]:
        answer = self.ask("GET", "/blnkctl-probe", key)
        return answer.status, as_json(answer)["error"]


def as_json(answer: Response) -> Any:
    return json.loads(answer.body)


ACCEPTED = (403, "Unknown resource type")
UNKNOWN = (401, "Invalid API key")
ENDED = (401, "API key is expired or revoked")
