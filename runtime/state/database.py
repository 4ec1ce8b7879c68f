"""The SQLite file behind the state: one row a sandbox, one row a container.

WAL with ``synchronous=NORMAL``: a commit survives the SIGKILL of the daemon at once, and a power
cut may take back only the last moments, during which the pods died as well. A row holds the CRI
config as the protobuf bytes that came in, and the record as JSON, so that a new field of a record
needs no migration (absent means its default).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime.shim.messages import Rootfs, to_message
from runtime.state.records import ContainerRecord, SandboxRecord, StateError

SCHEMA_VERSION = 1

_Record = TypeVar("_Record", SandboxRecord, ContainerRecord)

_SCHEMA = """
CREATE TABLE sandboxes (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, config BLOB NOT NULL, record BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),
    name TEXT NOT NULL UNIQUE, config BLOB NOT NULL, record BLOB NOT NULL
) WITHOUT ROWID;
"""


class Database:
    """The rows on disk. Not thread-safe: it belongs to the event loop's thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it or check its schema version.

        Raises:
            StateError: the file cannot be opened, is damaged, or was written by a newer version.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate()
        except sqlite3.Error as error:
            raise StateError(
                f"open the state file {path}: {error}. If it is damaged, move it aside and start "
                "again: pods made before are then unknown and their directories are cleaned up"
            ) from error

    def _migrate(self) -> None:
        with closing(self._connection.execute("PRAGMA user_version")) as cursor:
            version: int = cursor.fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StateError(
                f"the state file {self._path} has schema version {version}, this program knows "
                f"{SCHEMA_VERSION} at most: it was written by a newer version; use that one"
            )
        if version == 0:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def put_sandbox(self, record: SandboxRecord, config: bytes) -> None:
        """Write a new sandbox. The name must be unused."""
        self._run(
            "INSERT INTO sandboxes (id, name, config, record) VALUES (?, ?, ?, ?)",
            (record.id, record.name, config, _encode(record)),
        )

    def update_sandbox(self, record: SandboxRecord) -> None:
        """Replace the record of a known sandbox; its config never changes."""
        self._run(
            "UPDATE sandboxes SET record = ? WHERE id = ?",
            (_encode(record), record.id),
        )

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Forget a sandbox, whose containers are forgotten already."""
        self._run("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,))

    def put_container(self, record: ContainerRecord, config: bytes) -> None:
        """Write a new container of a known sandbox. The name must be unused."""
        self._run(
            "INSERT INTO containers (id, sandbox_id, name, config, record) VALUES (?, ?, ?, ?, ?)",
            (record.id, record.sandbox_id, record.name, config, _encode(record)),
        )

    def update_container(self, record: ContainerRecord) -> None:
        """Replace the record of a known container."""
        self._run(
            "UPDATE containers SET record = ? WHERE id = ?",
            (_encode(record), record.id),
        )

    def delete_container(self, container_id: str) -> None:
        """Forget a container."""
        self._run("DELETE FROM containers WHERE id = ?", (container_id,))

    def sandboxes(self) -> Iterator[tuple[SandboxRecord, bytes]]:
        """Return every sandbox with the bytes of its config."""
        for identifier, config, record in self._rows("sandboxes"):
            yield self._decode(identifier, record, SandboxRecord), config

    def containers(self) -> Iterator[tuple[ContainerRecord, bytes]]:
        """Return every container with the bytes of its config."""
        for identifier, config, record in self._rows("containers"):
            yield self._decode(identifier, record, ContainerRecord), config

    def close(self) -> None:
        """Close the file; everything is on disk already."""
        self._connection.close()

    def _rows(self, table: str) -> list[tuple[str, bytes, bytes]]:
        try:
            with closing(self._connection.execute(f"SELECT id, config, record FROM {table}")) as c:
                return c.fetchall()
        except sqlite3.Error as error:
            raise StateError(f"read {table} from the state file {self._path}: {error}") from error

    def _decode(self, identifier: str, record: bytes, kind: type[_Record]) -> _Record:
        try:
            return msgspec.json.decode(record, type=kind, dec_hook=_to_rootfs)
        except (msgspec.DecodeError, KeyError) as error:
            raise StateError(
                f"the row of {identifier} in the state file {self._path} is damaged: {error}"
            ) from error

    def _run(self, statement: str, parameters: tuple[object, ...]) -> None:
        try:
            self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF in (
                sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # fmt: skip
            remedy = "; free space on its disk, or look at its health" if full else ""
            raise StateError(f"write to the state file {self._path}: {error}{remedy}") from error


def _encode(record: SandboxRecord | ContainerRecord) -> bytes:
    return msgspec.json.encode(record, enc_hook=to_message)


def _to_rootfs(kind: type[Any], value: dict[str, Any]) -> Rootfs:
    # The one type of a record that msgspec does not know.
    assert kind is Rootfs
    return Rootfs.from_message(value)
