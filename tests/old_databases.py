"""A database with keys of all kinds that goes through versions of Core, and what is true of its rows."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from blnkctl.domain.exports import EXPORT_COLUMNS
from blnkctl.domain.marks import successor_marks
from blnkctl.sandbox import KeyRow, Sandbox
from tests.conftest import ADMIN_KEY

PLAIN_OWNERS = tuple(f"owner-{number:02}" for number in range(12))
ODD_OWNERS = (
    "acme/eu",
    "a b&owner=owner-01",
    "100%2Fpaid",
    "Ünïcode 株式会社",
    " ",
    "-o",
    "line\nbreak",
    "../../etc",
)
OWNERS = PLAIN_OWNERS + ODD_OWNERS
NAMES = ("billing", "payouts", "ci", "mobile app", "prod", "api_key_looks_like_an_id")
ODD_NAMES = (
    "a/b/../c",
    "tab\there",
    "two\r\nlines",
    "right-to-left \u202eevil",
    "| table | `code` |",
    '"quoted", and, commas',
    "{owner}",
    "--help",
    "x" * 300,
    "\U0001f511",
    "=cmd|' /C calc'!A0",
    " ",
)
SCOPES = (("ledgers:read",), ("ledgers:read", "balances:write"), ("transactions:*",), ("*:*",))
ODD_SCOPES = (("nothing:known",), ("LEDGERS:READ", ""), ("a:b:c", "ledgers:read", "ledgers:read"), (), ("é: ",))
ODD_EXPIRIES = ("9999-12-31T23:59:59Z", "2099-02-28T23:59:59.123456789+05:30")


@dataclass
class OldDatabase:
    """Rows that outlive their server: `upgrade` starts another Core over them, on the same port."""

    start: Callable[..., Sandbox]
    data: Path
    rng: Random
    server: Sandbox = field(init=False)

    def upgrade(self, core: str) -> Sandbox:
        """Go on as another Core."""
        port = 0
        if hasattr(self, "server"):
            port = int(self.server.url.rpartition(":")[2])
            self.server.stop()
        self.server = self.start(core, data=self.data, port=port)
        return self.server

    def rows(self, *owners: str) -> dict[str, KeyRow]:
        """Return the rows of these owners, or of all, by their ids."""
        rows = self.server.emulator.rows
        return {row.api_key_id: row for owner in owners or OWNERS for row in rows.of_owner(owner)}

    # --- keys that others made ------------------------------------------------------------------

    def fill(self, count: int) -> None:
        """Let programs make so many keys, of all kinds, by the Core that runs."""
        for number in range(count):
            key_id = self._make(OWNERS[number % len(OWNERS)])
            if self.rng.random() < 0.08:
                self.server.emulator.rows.revoke(key_id, _microseconds(datetime.now(UTC)))

    def add_row_of_unknown_form(self) -> None:
        """Add a row that no version stored."""
        template = next(iter(self.rows().values()))
        unknown = replace(template, api_key_id="api_key_from-a-fork", key="argon2$of-a-fork", is_revoked=False)
        self.server.add_rows(replace(unknown, revoked_at=None, expires_at=template.created_at + 10**13))

    def _make(self, owner: str) -> str:
        is_odd = self.rng.random() < 0.15
        name = self.rng.choice(ODD_NAMES if is_odd else NAMES)
        scopes = self.rng.choice(ODD_SCOPES if self.rng.random() < 0.15 else SCOPES)
        body = {"name": name, "owner": owner, "scopes": scopes, "expires_at": self._expiry()}
        answer = self.server.emulator.answer(
            "POST", "/api-keys", {"X-Blnk-Key": ADMIN_KEY}, json.dumps(body).encode()
        )
        assert answer.status == 201, answer.body
        return str(json.loads(answer.body)["api_key_id"])

    def _expiry(self) -> str:
        """Return an expiry; now and then it is past, odd, or the same second as another key's."""
        kind = self.rng.random()
        if kind < 0.05:
            return self.rng.choice(ODD_EXPIRIES)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = timedelta(days=self.rng.choice((-30, -1)) if kind < 0.13 else self.rng.choice((30, 90, 365)))
        return (today + days + timedelta(microseconds=self.rng.choice((0, 0, 123_456)))).isoformat()

    # --- what is known of them ------------------------------------------------------------------

    def export(self, path: Path, *owners: str) -> Path:
        """Write what the SQL of the documentation would, of these owners or of all."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(EXPORT_COLUMNS)
        writer.writerows(_exported(row) for row in sorted(self.rows(*owners).values(), key=_age))
        path.write_bytes(text.getvalue().encode())
        return path

    def accepts(self, secret: str) -> bool:
        """Tell whether the server takes a secret for a key's."""
        answer = self.server.emulator.answer("GET", "/blnkctl-probe", {"X-Blnk-Key": secret})
        return answer.status == 403 and b"Unknown resource type" in answer.body


def _age(row: KeyRow) -> int:
    return row.created_at


def _exported(row: KeyRow) -> list[str]:
    used = "" if row.last_used_at < 0 else _written(row.last_used_at)
    revoked = "" if row.revoked_at is None else _written(row.revoked_at)
    scopes = json.dumps(row.scopes, ensure_ascii=False)
    times = [_written(row.expires_at), _written(row.created_at)]
    return [row.api_key_id, row.owner_id, row.name, scopes, *times, used, revoked, scheme_of_row(row)]


def scheme_of_row(row: KeyRow) -> str:
    """Name the form in which a row's key is stored."""
    if row.key.startswith("$2a$"):
        return "bcrypt"
    return {44: "plaintext", 64: "sha256"}.get(len(row.key), "unknown")


def is_live(row: KeyRow) -> bool:
    """Tell whether a row is neither revoked nor expired."""
    return not row.is_revoked and row.expires_at > _microseconds(datetime.now(UTC))


def successors_of(old: KeyRow, rows: Iterable[KeyRow]) -> list[KeyRow]:
    """Return the live rows that carry a mark of an old one."""
    marks = successor_marks(old.api_key_id)
    return [row for row in rows if row.expires_at % 1_000_000 in marks and _is_of_same_key(old, row) and is_live(row)]


def _is_of_same_key(old: KeyRow, row: KeyRow) -> bool:
    return (row.owner_id, row.name, row.scopes, row.expires_at // 1_000_000) == (
        old.owner_id,
        old.name,
        old.scopes,
        old.expires_at // 1_000_000,
    )


def differing(before: dict[str, KeyRow], after: dict[str, KeyRow], but: Sequence[str] = ()) -> list[str]:
    """Return the ids of rows that are gone or are not what they were."""
    return [id_ for id_, row in before.items() if id_ not in but and after.get(id_) != row]


def unrevoked(row: KeyRow) -> KeyRow:
    """Return a row as it was before it was revoked."""
    return replace(row, is_revoked=False, revoked_at=None)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _written(microseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
