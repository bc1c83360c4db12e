"""A `Journal`: operations, the index of keys, receipts and owners of this machine. Never a secret."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blnkctl.adapters.state.database import StateDatabase
from blnkctl.adapters.state.rows import (
    KEY,
    OPERATION,
    RECEIPT,
    SUCCESSION,
    from_key,
    from_operation,
    from_receipt,
    from_succession,
    placeholders,
    to_key,
    to_operation,
    to_receipt,
    to_succession,
)
from blnkctl.domain.operations import KnownKey, Operation, Phase
from blnkctl.domain.selectors import IdPrefix, KeyWord
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.times import format_timestamp

if TYPE_CHECKING:
    from blnkctl.domain.receipts import Receipt
    from blnkctl.domain.successions import Succession

_LATEST_FIRST = "ORDER BY coalesce(promoted_at, stored_at) DESC, created_at DESC, id"
# The key that an operation left is, from that moment on, the successor that the operation was for.
_STORED = (
    "UPDATE successions SET phase = 'stored', problem = NULL, new_id = ?1 WHERE (server, old_id) ="
    " (SELECT server, succeeds FROM operations WHERE id = ?2)"
)


class StateFile:
    """The journal in one SQLite file."""

    def __init__(self, directory: Path, now: Callable[[], datetime], *, is_only_looked_into: bool = False) -> None:
        self._database = StateDatabase(directory, is_only_looked_into=is_only_looked_into)
        self._now = now

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def check(self) -> int:
        """Prove that the file can be written durably; return its schema version."""
        return self._database.check()

    # --- operations ---------------------------------------------------------------------------

    def begin(self, operation: Operation, *, actor: str, reason: str | None) -> None:
        """Record that an operation begins."""
        values = (*from_operation(operation), actor, reason)
        with self._database.transaction() as database:
            database.execute(
                f"INSERT INTO operations ({OPERATION}, actor, reason) VALUES ({placeholders(values)})",
                values,
            )

    def record_sent(self, operation: Operation) -> None:
        """Record what is about to be asked for."""
        columns = OPERATION.split(", ")[1:]
        values = from_operation(operation)
        with self._database.transaction() as database:
            database.execute(
                f"UPDATE operations SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?",
                (*values[1:], operation.id),
            )

    def close_operation(self, operation_id: str, outcome: str, *, key: KnownKey | None = None) -> None:
        """Record an operation's end, and the key it left."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE operations SET phase = ?, outcome = ?, ended_at = ?, key_id = coalesce(?, key_id)"
                " WHERE id = ?",
                (Phase.DONE, outcome, format_timestamp(self._now()), None if key is None else key.id, operation_id),
            )
            if key is not None:
                _insert_key(database, key)
                database.execute(_STORED, (key.id, operation_id))

    def open_operations(self) -> list[Operation]:
        """Return what was begun and not ended, oldest first."""
        rows = self._database.read(
            f"SELECT {OPERATION} FROM operations WHERE phase <> 'done' ORDER BY started_at, id"
        )
        return self._database.understood(to_operation, rows)

    def ended(self, operation_ids: Iterable[str]) -> dict[str, KnownKey | None]:
        """Return those of the operations that this journal knows to have ended, each with the key it left."""
        columns = ", ".join(f"keys.{column}" for column in KEY.split(", "))
        statement = (
            f"SELECT {columns} FROM operations LEFT JOIN keys"
            " ON keys.server = operations.server AND keys.id = operations.key_id"
            " WHERE operations.id = ? AND phase = ?"
        )
        found = ((id_, self._database.read(statement, (id_, Phase.DONE.value))) for id_ in operation_ids)
        left = {id_: [row for row in rows if row[0] is not None] for id_, rows in found if rows}
        return {id_: next(iter(self._database.understood(to_key, rows)), None) for id_, rows in left.items()}

    # --- keys ---------------------------------------------------------------------------------

    def remember(self, keys: Iterable[KnownKey]) -> None:
        """Insert or replace keys."""
        with self._database.transaction() as database:
            for key in keys:
                _insert_key(database, key)

    def known_keys(self, server: ServerUrl) -> list[KnownKey]:
        """Return the index of a server, the latest stored first."""
        rows = self._database.read(
            f"SELECT {KEY} FROM keys WHERE server = ? {_LATEST_FIRST}",
            (str(server),),
        )
        return self._database.understood(to_key, rows)

    def known_fitting(self, server: ServerUrl, word: KeyWord) -> list[KnownKey]:
        """Return the keys of the index that a KEY fits, the latest stored first."""
        if isinstance(word, IdPrefix):
            condition, text = "substr(id, 1, length(?2)) = ?2", word.prefix
        else:
            condition, text = "owner || '/' || name = ?2", word.text
        rows = self._database.read(
            f"SELECT {KEY} FROM keys WHERE server = ?1 AND {condition} {_LATEST_FIRST}",
            (str(server), text),
        )
        return self._database.understood(to_key, rows)

    def find_known(self, server: ServerUrl, key_id: str) -> KnownKey | None:
        """Return one key of the index."""
        rows = self._database.read(f"SELECT {KEY} FROM keys WHERE server = ? AND id = ?", (str(server), key_id))
        return next(iter(self._database.understood(to_key, rows)), None)

    def known_by_fingerprint(self) -> dict[str, list[KnownKey]]:
        """Return the keys of every server's index, by fingerprint."""
        rows = self._database.read(
            f"SELECT {KEY} FROM keys WHERE fingerprint IS NOT NULL ORDER BY created_at DESC, id"
        )
        found: dict[str, list[KnownKey]] = {}
        for key in self._database.understood(to_key, rows):
            found.setdefault(str(key.fingerprint), []).append(key)
        return found

    # --- receipts ---------------------------------------------------------------------------------

    def record_receipt(self, server: ServerUrl, receipt: Receipt) -> None:
        """Insert or replace a receipt."""
        values = (str(server), *from_receipt(receipt))
        with self._database.transaction() as database:
            database.execute(
                f"INSERT OR REPLACE INTO receipts (server, {RECEIPT}) VALUES ({placeholders(values)})", values
            )

    def receipts(self, server: ServerUrl, key_id: str | None = None) -> dict[str, list[Receipt]]:
        """Return the receipts of a server's keys, or of one of them, by id, the sinks in order."""
        condition, values = ("", ()) if key_id is None else ("AND key_id = ?", (key_id,))
        rows = self._database.read(
            f"SELECT {RECEIPT} FROM receipts WHERE server = ? {condition} ORDER BY key_id, sink",
            (str(server), *values),
        )
        found: dict[str, list[Receipt]] = {}
        for receipt in self._database.understood(to_receipt, rows):
            found.setdefault(receipt.key_id, []).append(receipt)
        return found

    # --- successions --------------------------------------------------------------------------

    def record_succession(self, succession: Succession) -> None:
        """Insert or replace a succession."""
        with self._database.transaction() as database:
            _insert_succession(database, succession)

    def promote(self, succession: Succession, key: KnownKey) -> None:
        """Record a succession and, in the same transaction, its new key."""
        with self._database.transaction() as database:
            _insert_succession(database, succession)
            _insert_key(database, key)

    def find_succession(self, server: ServerUrl, old_id: str) -> Succession | None:
        """Return the succession of a key."""
        return self._one_succession("old_id = ?", server, old_id)

    def succession_to(self, server: ServerUrl, new_id: str) -> Succession | None:
        """Return the succession that made a key."""
        return self._one_succession("new_id = ?", server, new_id)

    def plan_successions(self, planned: Iterable[Succession], made_at: datetime) -> None:
        """Insert what a plan begins.

        What sent nothing yet takes the plan's word; what is outdated by the plan begins anew; the rest is kept.
        """
        with self._database.transaction() as database:
            for one in planned:
                _plan_succession(database, one, format_timestamp(made_at))

    def open_successions(self, server: ServerUrl, plan: str, after: tuple[str, str], limit: int) -> list[Succession]:
        """Return those of a plan that are not promoted, by owner and old id, behind that pair."""
        condition = "AND plan = ? AND phase IN ('begun', 'stored', 'proven')"
        return self._migrations(condition, (str(server), *after, plan, limit))

    def open_rotations(self, server: ServerUrl) -> list[Succession]:
        """Return the rotations whose new key is not in its place yet, by owner and old id."""
        rows = self._database.read(
            f"SELECT {SUCCESSION} FROM successions WHERE server = ? AND kind = 'rotate'"
            " AND phase IN ('begun', 'stored', 'proven') ORDER BY owner, old_id",
            (str(server),),
        )
        return self._database.understood(to_succession, rows)

    def migrations(self, server: ServerUrl, after: tuple[str, str], limit: int) -> list[Succession]:
        """Return all that plans began, by owner and old id, behind that pair."""
        return self._migrations("", (str(server), *after, limit))

    def _migrations(self, condition: str, values: tuple[object, ...]) -> list[Succession]:
        rows = self._database.read(
            f"SELECT {SUCCESSION} FROM successions WHERE server = ? AND kind = 'migrate' AND (owner, old_id) > (?, ?)"
            f" {condition} ORDER BY owner, old_id LIMIT ?",
            values,
        )
        return self._database.understood(to_succession, rows)

    def _one_succession(self, condition: str, server: ServerUrl, key_id: str) -> Succession | None:
        rows = self._database.read(
            f"SELECT {SUCCESSION} FROM successions WHERE server = ? AND {condition}", (str(server), key_id)
        )
        return next(iter(self._database.understood(to_succession, rows)), None)

    # --- owners -------------------------------------------------------------------------------

    def owners(self, server: ServerUrl) -> dict[str, str]:
        """Return the known owners of a server: `added` by hand, or of a key in the `index`."""
        indexed = self._database.read("SELECT DISTINCT owner FROM keys WHERE server = ?", (str(server),))
        added = self._database.read("SELECT owner FROM owners WHERE server = ?", (str(server),))
        return {str(row[0]): "index" for row in indexed} | {str(row[0]): "added" for row in added}

    def add_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Remember owners; return how many were new."""
        with self._database.transaction() as database:
            return database.executemany(
                "INSERT OR IGNORE INTO owners (server, owner) VALUES (?, ?)",
                [(str(server), owner) for owner in owners],
            ).rowcount

    def remove_owners(self, server: ServerUrl, owners: Iterable[str]) -> int:
        """Forget owners; return how many were known."""
        with self._database.transaction() as database:
            return database.executemany(
                "DELETE FROM owners WHERE server = ? AND owner = ?", [(str(server), owner) for owner in owners]
            ).rowcount


def _plan_succession(database: sqlite3.Connection, one: Succession, made_at: str) -> None:
    item, values = (one.server, one.old.id), from_succession(one)
    database.execute(
        "DELETE FROM successions WHERE (server, old_id) = (?, ?)"
        " AND (phase = 'begun' OR promoted_at < ? AND plan IS NOT ?)",
        (*item, made_at, one.plan),
    )
    database.execute(
        f"INSERT OR IGNORE INTO successions ({SUCCESSION}) VALUES ({placeholders(values)})",
        values,
    )
    database.execute(
        "UPDATE successions SET plan = ?, kind = ? WHERE (server, old_id) = (?, ?)"
        " AND phase IN ('begun', 'stored', 'proven')",
        (one.plan, one.kind.value, *item),
    )


def _insert_succession(database: sqlite3.Connection, succession: Succession) -> None:
    values = from_succession(succession)
    database.execute(
        f"INSERT OR REPLACE INTO successions ({SUCCESSION}) VALUES ({placeholders(values)})",
        values,
    )


def _insert_key(database: sqlite3.Connection, key: KnownKey) -> None:
    """Insert or replace a key of the index."""
    values = from_key(key)
    database.execute(f"INSERT OR REPLACE INTO keys ({KEY}) VALUES ({placeholders(values)})", values)
