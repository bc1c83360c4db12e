"""The tables, and how those of an older version become these. Knows no rows."""

import sqlite3
import time

SCHEMA_VERSION = 3
BUSY_SECONDS = 10.0
_TABLES = """
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
) STRICT, WITHOUT ROWID
"""
_FROM_1_TO_2 = """
CREATE TABLE receipts (
    server TEXT NOT NULL, key_id TEXT NOT NULL, sink TEXT NOT NULL, target TEXT NOT NULL, fingerprint TEXT NOT NULL,
    delivered_at TEXT NOT NULL, verified INTEGER,
    PRIMARY KEY (server, key_id, sink)
) STRICT, WITHOUT ROWID
"""
_FROM_2_TO_3 = """
ALTER TABLE operations ADD COLUMN succeeds TEXT;
ALTER TABLE operations ADD COLUMN sinks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE operations ADD COLUMN context TEXT;
ALTER TABLE keys ADD COLUMN awaits_promotion INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN promoted_at TEXT;
CREATE TABLE successions (
    server TEXT NOT NULL, old_id TEXT NOT NULL, old TEXT NOT NULL, kind TEXT NOT NULL, way TEXT NOT NULL,
    phase TEXT NOT NULL, scopes TEXT NOT NULL, expires_at TEXT NOT NULL, started_at TEXT NOT NULL,
    sinks TEXT NOT NULL, new_id TEXT, promoted_at TEXT, due TEXT, ended_at TEXT, problem TEXT,
    actor TEXT NOT NULL, reason TEXT, plan TEXT, owner TEXT NOT NULL, verified_at TEXT,
    PRIMARY KEY (server, old_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX successors ON successions (server, new_id) WHERE new_id IS NOT NULL;
CREATE INDEX successions_of_owners ON successions (server, kind, owner, old_id)
"""
_STEPS = (_TABLES, _FROM_1_TO_2, _FROM_2_TO_3)


def bring_up_to_date(database: sqlite3.Connection) -> None:
    """Make the tables, or add what an older version lacks: once, whoever of two is first."""
    _switch_to_wal(database)
    with database:
        database.execute("BEGIN IMMEDIATE")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        for step in _STEPS[version:]:
            for statement in step.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Switch the file to WAL; of two at once one is told "locked" without the wait that SQLite keeps elsewhere."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
