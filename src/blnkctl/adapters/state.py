"""What this machine remembers, in one SQLite file: open operations, known keys, known owners. Never a secret."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.keys import KeySpec
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.selectors import IdPrefix, KeyWord
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.times import format_timestamp, parse_timestamp
from blnkctl.system.files import ensure_private_directory
from blnkctl.system.mounts import NETWORK_FILE_SYSTEMS, file_system_of

SCHEMA_VERSION = 1
FILE_NAME = "state.db"
Row = TypeVar("Row")
_BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE operations (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, server TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    phase TEXT NOT NULL, started_at TEXT NOT NULL, key_id TEXT, scopes TEXT, expires_at TEXT,
    store TEXT, store_id TEXT, rows_before INTEGER, sent_at TEXT,
    actor TEXT NOT NULL, reason TEXT, outcome TEXT, ended_at TEXT
) STRICT;
CREATE INDEX open_operations ON operations (phase) WHERE phase <> 'done';
CREATE TABLE keys (
    server TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,
    expires_at TEXT NOT NULL, created_at TEXT NOT NULL, is_revoked INTEGER NOT NULL, revoked_at TEXT,
    store TEXT, store_id TEXT, fingerprint TEXT, stored_at TEXT,
    PRIMARY KEY (server, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE owners (
    server TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (server, owner)
) STRICT, WITHOUT ROWID;
"""
_OPERATION = (
    "id, kind, server, owner, name, phase, started_at, key_id, scopes, expires_at, store, store_id, rows_before,"
    " sent_at"
)
_KEY = (
    "server, id, owner, name, scopes, expires_at, created_at, is_revoked, revoked_at, store, store_id, fingerprint,"
    " stored_at"
)


class StateFile:
    """A `Journal` in SQLite: WAL, `synchronous=FULL`, 0600. No transaction stays open across a request."""

    def __init__(self, directory: Path, now: Callable[[], datetime], *, is_only_looked_into: bool = False) -> None:
        self._path = directory / FILE_NAME
        self._now = now
        self._is_only_looked_into = is_only_looked_into
        self._connection: sqlite3.Connection | None = None
        self._is_private = False

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def check(self) -> int:
        """Prove that the file can be written durably; return its schema version."""
        with self._transaction() as database:
            version: int = database.execute("PRAGMA user_version").fetchone()[0]
            database.execute(f"PRAGMA user_version = {version}")
        return version

    # --- operations ---------------------------------------------------------------------------

    def begin(self, operation: Operation, *, actor: str, reason: str | None) -> None:
        """Record that an operation begins."""
        values = (*_operation_row(operation), actor, reason)
        with self._transaction() as database:
            database.execute(
                f"INSERT INTO operations ({_OPERATION}, actor, reason) VALUES ({_marks(values)})",
                values,
            )

    def record_sent(self, operation: Operation) -> None:
        """Record what is about to be asked for."""
        columns = _OPERATION.split(", ")[1:]
        values = _operation_row(operation)
        with self._transaction() as database:
            database.execute(
                f"UPDATE operations SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?",
                (*values[1:], operation.id),
            )

    def close_operation(self, operation_id: str, outcome: str, *, key: KnownKey | None = None) -> None:
        """Record an operation's end, and the key it left."""
        with self._transaction() as database:
            database.execute(
                "UPDATE operations SET phase = ?, outcome = ?, ended_at = ?, key_id = coalesce(?, key_id)"
                " WHERE id = ?",
                (Phase.DONE, outcome, format_timestamp(self._now()), None if key is None else key.id, operation_id),
            )
            if key is not None:
                _insert_key(database, key)

    def open_operations(self) -> list[Operation]:
        """Return what was begun and not ended, oldest first."""
        rows = self._read(f"SELECT {_OPERATION} FROM operations WHERE phase <> 'done' ORDER BY started_at, id")
        return self._understood(_operation, rows)

    def ended(self, operation_ids: Iterable[str]) -> dict[str, KnownKey | None]:
        """Return those of the operations that this journal knows to have ended, each with the key it left."""
        columns = ", ".join(f"keys.{column}" for column in _KEY.split(", "))
        statement = (
            f"SELECT {columns} FROM operations LEFT JOIN keys"
            " ON keys.server = operations.server AND keys.id = operations.key_id"
            " WHERE operations.id = ? AND phase = ?"
        )
        found = ((id_, self._read(statement, (id_, Phase.DONE.value))) for id_ in operation_ids)
        left = {id_: [row for row in rows if row[0] is not None] for id_, rows in found if rows}
        return {id_: next(iter(self._understood(_key, rows)), None) for id_, rows in left.items()}

    # --- keys ---------------------------------------------------------------------------------

    def remember(self, keys: Iterable[KnownKey]) -> None:
        """Insert or replace keys."""
        with self._transaction() as database:
            for key in keys:
                _insert_key(database, key)

    def known_keys(self, server: ServerUrl) -> list[KnownKey]:
        """Return the index of a server, the latest stored first."""
        rows = self._read(
            f"SELECT {_KEY} FROM keys WHERE server = ? ORDER BY stored_at DESC, created_at DESC, id",
            (str(server),),
        )
        return self._understood(_key, rows)

    def known_fitting(self, server: ServerUrl, word: KeyWord) -> list[KnownKey]:
        """Return the keys of the index that a KEY fits, the latest stored first."""
        if isinstance(word, IdPrefix):
            condition, text = "substr(id, 1, length(?2)) = ?2", word.prefix
        else:
            condition, text = "owner || '/' || name = ?2", word.text
        rows = self._read(
            f"SELECT {_KEY} FROM keys WHERE server = ?1 AND {condition} ORDER BY stored_at DESC, created_at DESC, id",
            (str(server), text),
        )
        return self._understood(_key, rows)

    def find_known(self, server: ServerUrl, key_id: str) -> KnownKey | None:
        """Return one key of the index."""
        rows = self._read(f"SELECT {_KEY} FROM keys WHERE server = ? AND id = ?", (str(server), key_id))
        return next(iter(self._understood(_key, rows)), None)

    def known_by_fingerprint(self) -> dict[str, list[KnownKey]]:
        """Return the keys of every server's index, by fingerprint."""
        rows = self._read(f"SELECT {_KEY} FROM keys WHERE fingerprint IS NOT NULL ORDER BY created_at DESC, id")
        found: dict[str, list[KnownKey]] = {}
        for key in self._understood(_key, rows):
            found.setdefault(str(key.fingerprint), []).append(key)
        return found

    # --- owners -------------------------------------------------------------------------------

    def owners(self, server: ServerUrl) -> dict[str, str]:
        """Return the known owners of a server: `added` by hand, or of a key in the `index`."""
        indexed = self._read("SELECT DISTINCT owner FROM keys WHERE server = ?", (str(server),))
        added = self._read("SELECT owner FROM owners WHERE server = ?", (str(server),))
        return {str(row[0]): "index" for row in indexed} | {str(row[0]): "added" for row in added}

    def add_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Remember owners; return how many were new."""
        with self._transaction() as database:
            return database.executemany(
                "INSERT OR IGNORE INTO owners (server, owner) VALUES (?, ?)",
                [(str(server), owner) for owner in owners],
            ).rowcount

    def remove_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Forget owners; return how many were known."""
        with self._transaction() as database:
            return database.executemany(
                "DELETE FROM owners WHERE server = ? AND owner = ?", [(str(server), owner) for owner in owners]
            ).rowcount

    # --- the file -----------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            database = self._open(create=True)
            with database:
                database.execute("BEGIN IMMEDIATE")
                yield database
        except sqlite3.Error as error:
            raise _state_failed(self._path, str(error)) from None

    def _read(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Read; where nothing was ever remembered there is nothing to find, and nothing is made."""
        if self._connection is None and not self._path.exists():
            return []
        try:
            return self._open(create=False).execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _state_failed(self._path, str(error)) from None

    def _understood(
        self, convert: Callable[[tuple[object, ...]], Row], rows: Iterable[tuple[object, ...]]
    ) -> list[Row]:
        try:
            return [convert(row) for row in rows]
        except ValueError:
            raise _state_failed(self._path, "it holds a row that no blnkctl wrote") from None

    def _open(self, *, create: bool) -> sqlite3.Connection:
        if self._connection is None:
            _refuse_network_file_system(self._path.parent)
        if create and not self._is_private:
            self._make_private()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if self._is_only_looked_into:
            database = _look_into(self._path)
        else:
            database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _make_private(self) -> None:
        """Make the file ourselves, 0600 from the start: SQLite would follow the umask."""
        try:
            ensure_private_directory(self._path.parent)
            self._path.touch(mode=0o600, exist_ok=True)
            if self._path.stat().st_mode & 0o077:
                self._path.chmod(0o600)
        except OSError as error:
            raise _state_failed(self._path, error.strerror or str(error)) from None
        self._is_private = True

    def _prepare(self, database: sqlite3.Connection) -> None:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"The journal {self._path} was written by a newer blnkctl (schema {version}); it was left untouched.",
                code="journal_newer",
                hint="Use that newer blnkctl here, or another BLNKCTL_STATE_DIR.",
            )
        if self._is_only_looked_into:
            return
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA fullfsync = ON")  # macOS; elsewhere it changes nothing
        if version < SCHEMA_VERSION:
            _create_schema(database)


def _look_into(path: Path) -> sqlite3.Connection:
    """Open the file as it lies there: SQLite makes a log beside it even to read, unless told that nobody writes."""
    is_in_use = all(path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm"))
    address = f"{path.absolute().as_uri()}?{'mode=ro' if is_in_use else 'immutable=1'}"
    return sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)


def _create_schema(database: sqlite3.Connection) -> None:
    """Make the tables once, whoever of two is first."""
    _switch_to_wal(database)
    with database:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Switch the file to WAL; of two at once one is told "locked" without the wait that SQLite keeps elsewhere."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _refuse_network_file_system(directory: Path) -> None:
    kind = file_system_of(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnavailable(
            f"The state directory {directory} is on a network file system ({kind}), where locks and the journal"
            " cannot be trusted; nothing was sent.",
            code="state_on_network",
            hint="Name a local one with BLNKCTL_STATE_DIR.",
        )


def _state_failed(path: Path, reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The journal {path} could not be used: {reason}.",
        code="journal_failed",
        hint="Mend that (space, permissions), or name another directory with BLNKCTL_STATE_DIR.",
    )


def _marks(values: tuple[object, ...]) -> str:
    return ", ".join("?" for _ in values)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)


def _moment(text: object) -> datetime | None:
    return None if text is None else parse_timestamp(str(text))


def _certain(text: object) -> datetime:
    moment = _moment(text)
    if moment is None:
        raise ValueError("a row without its time")
    return moment


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _operation_row(operation: Operation) -> tuple[object, ...]:
    spec = operation.spec
    return (
        operation.id,
        operation.kind.value,
        operation.server,
        operation.owner,
        operation.name,
        operation.phase.value,
        _time(operation.started_at),
        operation.key_id,
        None if spec is None else json.dumps(spec.scopes),
        None if spec is None else _time(spec.expires_at),
        operation.store,
        operation.store_id,
        operation.rows_before,
        _time(operation.sent_at),
    )


def _operation(row: tuple[object, ...]) -> Operation:
    owner, name, scopes = str(row[3]), str(row[4]), row[8]
    spec = None if scopes is None else KeySpec(name, owner, tuple(json.loads(str(scopes))), _certain(row[9]))
    return Operation(
        id=str(row[0]),
        kind=OperationKind(str(row[1])),
        server=str(row[2]),
        owner=owner,
        name=name,
        phase=Phase(str(row[5])),
        started_at=_certain(row[6]),
        key_id=_text(row[7]),
        spec=spec,
        store=_text(row[10]),
        store_id=_text(row[11]),
        rows_before=None if row[12] is None else int(str(row[12])),
        sent_at=_moment(row[13]),
    )


def _insert_key(database: sqlite3.Connection, key: KnownKey) -> None:
    values = (
        key.server,
        key.id,
        key.owner,
        key.name,
        json.dumps(key.scopes),
        _time(key.expires_at),
        _time(key.created_at),
        int(key.is_revoked),
        _time(key.revoked_at),
        key.store,
        key.store_id,
        key.fingerprint,
        _time(key.stored_at),
    )
    database.execute(f"INSERT OR REPLACE INTO keys ({_KEY}) VALUES ({_marks(values)})", values)


def _key(row: tuple[object, ...]) -> KnownKey:
    return KnownKey(
        server=str(row[0]),
        id=str(row[1]),
        owner=str(row[2]),
        name=str(row[3]),
        scopes=tuple(json.loads(str(row[4]))),
        expires_at=_certain(row[5]),
        created_at=_certain(row[6]),
        is_revoked=bool(row[7]),
        revoked_at=_moment(row[8]),
        store=_text(row[9]),
        store_id=_text(row[10]),
        fingerprint=_text(row[11]),
        stored_at=_moment(row[12]),
    )
