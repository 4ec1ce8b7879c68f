"""The SQLite file in which every write is durable before it is answered.

Two tables: what is there, and the last changes, from which watchers resume after a restart. WAL
with ``synchronous=FULL``: a commit returns after the log is flushed, so neither a SIGKILL nor a
power cut takes back what was acknowledged (SQLite documentation, "PRAGMA synchronous").
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from controlplane.store.model import Change, Contents, Item, StoreError

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE items (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY, key TEXT NOT NULL,
    value BLOB, created INTEGER,
    old_value BLOB, old_created INTEGER, old_modified INTEGER
);
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0);
"""


class SqliteLog:
    """The file; used by one thread at a time.

    Args:
        path: of the file; its directory exists. It is made with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Contents:
        """Open or make the file, and return what is there.

        Raises:
            StoreError: it cannot be opened, is damaged, or was written by a newer version.
        """
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=1, check_same_thread=False
            )
            self._connection = connection
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            # One server at a time: a second one would give the same revisions to other writes.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            self._migrate(connection)
            return _read(connection)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"open the store {self._path}: {error}. If another API server uses it, stop that "
                "one; if it is damaged, put back a copy of it or move it aside"
            ) from error

    def append(self, changes: list[Change], keep_from: int) -> None:
        """Write changes, all or none; they are on the disk when this returns.

        Raises:
            StoreError: none was written.
        """
        connection = self._connection
        assert connection is not None
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", map(_row, changes)
                )
                for change in changes:
                    _apply(connection, change)
                connection.execute("DELETE FROM changes WHERE revision < ?", (keep_from,))
                connection.execute("UPDATE state SET revision = ?", (changes[-1].revision,))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(
                f"write to the store {self._path}: {error}. Nothing of it was kept; if the disk is "
                "full, make room and try again"
            ) from error

    def close(self) -> None:
        """Close the file; everything is on the disk already."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the store {self._path} has schema version {version}, this program knows "
                f"{SCHEMA_VERSION} at most: it was written by a newer version; use that one"
            )
        if version == 0:
            connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )


def _row(change: Change) -> tuple[object, ...]:
    item, old = change.item, change.previous
    return (
        change.revision, change.key,
        item.value if item else None, item.created if item else None,
        old.value if old else None, old.created if old else None, old.modified if old else None,
    )  # fmt: skip


def _apply(connection: sqlite3.Connection, change: Change) -> None:
    item = change.item
    if item is None:
        connection.execute("DELETE FROM items WHERE key = ?", (change.key,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)",
            (item.key, item.value, item.created, item.modified),
        )


def _read(connection: sqlite3.Connection) -> Contents:
    (revision,) = connection.execute("SELECT revision FROM state").fetchone()
    items = tuple(
        Item(*row)
        for row in connection.execute(
            "SELECT key, value, created, modified FROM items ORDER BY key"
        )
    )
    rows = connection.execute("SELECT * FROM changes ORDER BY revision")
    return Contents(revision, items, tuple(_change(*row) for row in rows))


def _change(
    revision: int, key: str, value: bytes | None, created: int,
    old_value: bytes | None, old_created: int, old_modified: int,
) -> Change:  # fmt: skip
    item = None if value is None else Item(key, value, created, revision)
    old = None if old_value is None else Item(key, old_value, old_created, old_modified)
    return Change(revision, key, item, old)
