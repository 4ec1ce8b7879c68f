"""The SQLite file in which every write is durable before it is answered.

One table of versions, in the order of their revisions: a write adds a row, nothing else. Versions
that were replaced, and deletions, stay until the history before them is forgotten (``floor``): so
watchers can resume after a restart, and the file does not grow without bound. WAL with
``synchronous=FULL``: a commit returns after the log is flushed, so neither a SIGKILL nor a power
cut takes back what was acknowledged (SQLite documentation, "PRAGMA synchronous").
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from controlplane.store.model import Change, Contents, Item, StoreError, Trim

SCHEMA_VERSION: Final = 1
# Tells our files from other programs' (SQLite documentation, "PRAGMA application_id"): "kpst".
_APPLICATION: Final = 0x6B707374
_SCHEMA: Final = """
CREATE TABLE versions (
    revision INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB, created INTEGER NOT NULL
);
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), floor INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0);
"""
_MAX_LOG_BYTES: Final = 16 << 20
# Pages without content are given back to the disk when there are this many, and a quarter of all.
_MANY_FREE_PAGES: Final = 1024


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
                self._path, isolation_level=None, timeout=0.2, check_same_thread=False
            )
            self._connection = connection
            # Before the first table; without effect later.
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={_MAX_LOG_BYTES}")
            # One server at a time: a second one would give the same revisions to other writes.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            self._migrate(connection)
            _sync_directory(self._path.parent)
            return _read(connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(
                f"open the store {self._path}: {error}. If another API server uses it, stop that "
                "one; if it is damaged, put back a copy of it or move it aside"
            ) from error
        except StoreError:
            self.close()
            raise

    def append(self, changes: list[Change], trim: Trim | None) -> None:
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
                    "INSERT INTO versions VALUES (?, ?, ?, ?)", map(_row, changes)
                )
                if trim is not None:
                    _forget(connection, trim)
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
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the store {self._path} has schema version {version}, this program knows "
                f"{SCHEMA_VERSION} at most: it was written by a newer version; use that one"
            )
        if tables and application != _APPLICATION:
            raise StoreError(
                f"{self._path} is a database of another program: choose another directory"
            )
        if not tables:
            connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; "
                f"PRAGMA application_id = {_APPLICATION}; COMMIT;"
            )
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(
                f"the store {self._path} is damaged: {' '.join(found.split())}. Put back a copy of "
                "it, or move it aside and begin anew"
            )


def _row(change: Change) -> tuple[object, ...]:
    item = change.item
    return (change.revision, change.key, item.value if item else None, item.created if item else 0)


def _forget(connection: sqlite3.Connection, trim: Trim) -> None:
    connection.executemany("DELETE FROM versions WHERE revision = ?", ((r,) for r in trim.dead))
    connection.execute("UPDATE state SET floor = ?", (trim.floor,))
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if free > _MANY_FREE_PAGES and free > pages // 4:
        # A row for each page that is given back: none is, unless they are fetched.
        connection.execute(f"PRAGMA incremental_vacuum({free // 2})").fetchall()


def _read(connection: sqlite3.Connection) -> Contents:
    (floor,) = connection.execute("SELECT floor FROM state").fetchone()
    now: dict[str, Item] = {}
    then: tuple[Item, ...] | None = None
    changes: list[Change] = []
    revision = floor
    rows = connection.execute("SELECT revision, key, value, created FROM versions ORDER BY 1")
    for revision, key, value, created in rows:
        item = None if value is None else Item(key, value, created, revision)
        if revision > floor:
            if then is None:
                then = tuple(now.values())
            changes.append(Change(revision, key, item, now.get(key)))
        if item is None:
            now.pop(key, None)
        else:
            now[key] = item
    items = tuple(now.values()) if then is None else then
    return Contents(max(revision, floor), floor, items, tuple(changes))


def _sync_directory(path: Path) -> None:
    """Have the names of new files on the disk, too."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
