"""One SQLite file: WAL, `synchronous=FULL`, 0600, on a local disk. Knows no rows."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TypeVar

from blnkctl.adapters.state.schema import BUSY_SECONDS, SCHEMA_VERSION, bring_up_to_date
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.system.files import ensure_private_directory
from blnkctl.system.mounts import NETWORK_FILE_SYSTEMS, file_system_of

FILE_NAME = "state.db"
Row = TypeVar("Row")


class StateDatabase:
    """Opens the file when it is first needed; threads take turns. No transaction stays open across a request."""

    def __init__(self, directory: Path, *, is_only_looked_into: bool) -> None:
        self._path = directory / FILE_NAME
        self._is_only_looked_into = is_only_looked_into
        self._connection: sqlite3.Connection | None = None
        self._is_private = False
        self._one_at_a_time = RLock()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def check(self) -> int:
        """Prove that the file can be written durably; return its schema version."""
        with self.transaction() as database:
            version: int = database.execute("PRAGMA user_version").fetchone()[0]
            database.execute(f"PRAGMA user_version = {version}")
        return version

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Change the file durably, or not at all.

        Raises:
            StoreUnavailable: it cannot be used.
        """
        try:
            with self._one_at_a_time:
                database = self._open(create=True)
                with database:
                    database.execute("BEGIN IMMEDIATE")
                    yield database
        except sqlite3.Error as error:
            raise _state_failed(self._path, str(error)) from None

    def read(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Read; where nothing was ever remembered there is nothing to find, and nothing is made."""
        if self._connection is None and not self._path.exists():
            return []
        try:
            with self._one_at_a_time:
                return self._open(create=False).execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _state_failed(self._path, str(error)) from None

    def understood(
        self, convert: Callable[[tuple[object, ...]], Row], rows: Iterable[tuple[object, ...]]
    ) -> list[Row]:
        """Return rows as values.

        Raises:
            StoreUnavailable: one is none that any version wrote.
        """
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
            database = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
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
            bring_up_to_date(database)


def _look_into(path: Path) -> sqlite3.Connection:
    """Open the file as it lies there: SQLite makes a log beside it even to read, unless told that nobody writes."""
    is_in_use = all(path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm"))
    address = f"{path.absolute().as_uri()}?{'mode=ro' if is_in_use else 'immutable=1'}"
    return sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)


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
