"""Processes that die, stop or are interrupted at a chosen effect, and what must be true once `recover` has run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from blnkctl.adapters.state import StateFile
from blnkctl.domain.operations import Operation
from blnkctl.sandbox import KeyRow, Sandbox
from blnkctl.system.clock import SystemClock
from tests.conftest import Blnkctl

KILLED = -signal.SIGKILL
PAST_PATIENCE = 120.0
_SERVING = "process_request_thread"


@dataclass(frozen=True)
class Fate:
    """Signals that a process sends itself right before or right after its effect of this number."""

    at: int
    when: str = "before"
    signals: tuple[int, ...] = (signal.SIGKILL,)


@dataclass(frozen=True)
class Life:
    """How a process ended (None: it stopped), what it said, and the effects that it had begun, in order."""

    code: int | None
    out: str
    err: str
    effects: tuple[str, ...]

    @property
    def last(self) -> str:
        """Say where it was cut short, for the message of a failing test."""
        return f"cut at effect {len(self.effects)}: {self.effects[-1] if self.effects else 'none'}\n{self.err}"


@dataclass
class Child:
    """A process that the nursery started."""

    nursery: "Nursery"
    machine: Blnkctl
    pid: int
    prefix: Path
    shown: str

    def wait(self) -> Life:
        """Wait until it ended or stopped, and return what can be told of it."""
        code = self.nursery.ask({"do": "wait", "pid": self.pid})["code"]
        out, err, notes = (self._read(ending) for ending in ("out", "err", "notes"))
        texts = self.machine.secrets.texts
        texts += [(f"the standard output of {self.shown}", out), (f"the standard error of {self.shown}", err)]
        return Life(code, out, err, tuple(notes.splitlines()))

    def resume(self) -> Life:
        """Let a stopped one go on, to its end."""
        os.kill(self.pid, signal.SIGCONT)
        return self.wait()

    def _read(self, ending: str) -> str:
        path = self.prefix.with_suffix(f".{ending}")
        return path.read_text() if path.exists() else ""


@dataclass
class Nursery:
    """The program that forks children; a context manager."""

    _process: "subprocess.Popen[str] | None" = None
    _numbers: Iterator[int] = field(default_factory=count)

    def __enter__(self) -> "Nursery":
        script = Path(__file__).with_name("nursery.py")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, str(script)], stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate()

    def start(
        self,
        machine: Blnkctl,
        *arguments: str,
        fate: Fate | None = None,
        later: float = 0.0,
        haste: float = 1.0,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a command. `later`: its clock is so many seconds ahead; `haste`: its patience ends sooner."""
        prefix = machine.home / f"life-{next(self._numbers)}"
        request = {
            "do": "start",
            "arguments": arguments,
            "environment": {**machine.environment, **(env or {})},
            "fate": None if fate is None else {"at": fate.at, "when": fate.when, "signals": fate.signals},
            "later": later,
            "haste": haste,
            "stdin": stdin,
            **{ending: str(prefix.with_suffix(f".{ending}")) for ending in ("out", "err", "notes")},
        }
        return Child(self, machine, self.ask(request)["pid"], prefix, " ".join(arguments))

    def run(
        self,
        machine: Blnkctl,
        *arguments: str,
        fate: Fate | None = None,
        later: float = 0.0,
        stdin: str = "",
    ) -> Life:
        """Run a command until it ended or stopped."""
        return self.start(machine, *arguments, fate=fate, later=later, stdin=stdin).wait()

    def recover(self, machine: Blnkctl, *, fate: Fate | None = None, later: float = PAST_PATIENCE) -> Life:
        """Run `recover` when no proxy can still deliver anything."""
        return self.run(machine, "recover", "-o", "json", fate=fate, later=later)

    def ask(self, request: Mapping[str, object]) -> Any:
        """Send one request to the program and return its answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def raise_nursery() -> Iterator[Nursery]:
    """Be a fixture: one nursery for a module."""
    with Nursery() as started:
        yield started


# --- the server's side ---------------------------------------------------------------------------


def settle(seconds: float = 10.0) -> None:
    """Wait until every sandbox here has answered what a dead client had sent."""
    deadline = time.monotonic() + seconds
    while any(_SERVING in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a sandbox is still at work"
        time.sleep(0.001)


def add_bystanders(server: Sandbox, owner: str, expires_at: datetime) -> dict[str, KeyRow]:
    """Add keys that look like ours and are not: same owner, same name, same second, and neighbours."""
    neighbour = f"{owner}-neighbour"
    rows = [
        _row(owner, "billing", expires_at + timedelta(microseconds=500_000)),
        _row(owner, "billing", expires_at, is_revoked=True),
        _row(owner, "other", expires_at),
        _row(neighbour, "billing", expires_at + timedelta(microseconds=1)),
    ]
    server.add_rows(*rows)
    return {row.api_key_id: row for row in rows}


def _row(owner: str, name: str, expires_at: datetime, *, is_revoked: bool = False) -> KeyRow:
    now = _microseconds(datetime.now(UTC))
    return KeyRow(
        api_key_id=f"api_key_{uuid.uuid4()}",
        key=f"$2a$10${uuid.uuid4().hex}{uuid.uuid4().hex}"[:60],
        name=name,
        owner_id=owner,
        scopes=("ledgers:read",),
        expires_at=_microseconds(expires_at),
        created_at=now - 60_000_000,
        is_revoked=is_revoked,
        revoked_at=now - 30_000_000 if is_revoked else None,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def rows_of(server: Sandbox, *owners: str) -> dict[str, KeyRow]:
    """Return the rows of owners, by id."""
    rows = server.emulator.rows
    return {row.api_key_id: row for owner in owners for row in rows.of_owner(owner)}


# --- this machine's side -------------------------------------------------------------------------


def open_operations(machine: Blnkctl) -> list[Operation]:
    """Return what the journal holds open."""
    journal = StateFile(machine.home / "state", SystemClock().now)
    try:
        return journal.open_operations()
    finally:
        journal.close()


def entries(machine: Blnkctl) -> list[str]:
    """Return the names of the store's entries, temporary files and all."""
    return sorted(path.name.removesuffix(".age") for path in (machine.home / "store" / "entries").glob("*/*"))


def leftovers(machine: Blnkctl) -> list[str]:
    """Return what a finished command must not leave in the store."""
    store = machine.home / "store"
    left = [*(store / "pending").glob("*"), *store.rglob(".tmp-*"), *store.rglob("canary*")]
    return sorted(str(path.relative_to(store)) for path in left)


def authenticates(machine: Blnkctl, key_ids: Sequence[str]) -> list[bool | None]:
    """Return what `keys verify` says of each key."""
    verified = machine.run("keys", "verify", *key_ids, "-o", "json")
    return [item["authenticates"] for item in json.loads(verified.out)["data"]] if key_ids else []
