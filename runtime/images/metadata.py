"""What the image store knows, in SQLite: images, their names and blobs, and snapshots.

    images      one row per config digest
    names       tag or digest reference -> image
    image_blobs every blob that an image holds on to
    snapshots   directory number -> the layer (by chain id) or the container it belongs to

Every change is one transaction. A row in state ``ready`` is a promise about the disk: it is
written after the disk is, and removed before the disk is cleaned.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from runtime.images.config import parse_config
from runtime.images.errors import NoSpace, StoreError
from runtime.images.image import Image
from runtime.images.space import describe, is_full

_T = TypeVar("_T")
_MOST_REMEMBERED: Final = 1024
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE images (
    id TEXT PRIMARY KEY, config TEXT NOT NULL, chain TEXT NOT NULL, size INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE names (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('tag', 'digest')),
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX names_of_image ON names (image);
CREATE TABLE image_blobs (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, digest TEXT NOT NULL,
    PRIMARY KEY (image, digest)
) STRICT;
CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('layer', 'container')),
    key TEXT NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0,
    opaque INTEGER NOT NULL DEFAULT 0,
    lower TEXT NOT NULL DEFAULT '[]',
    UNIQUE (kind, key)
) STRICT;
"""


@dataclass(frozen=True)
class Snapshot:
    """A row of ``snapshots``; ``lower`` are the numbers of a container's layers, top first."""

    number: int
    kind: str
    key: str
    ready: bool
    bytes: int
    inodes: int
    opaque: bool
    lower: tuple[int, ...]


class Metadata:
    """The database; its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the database at ``path``.

        Raises:
            StoreError: it cannot be opened, or is of a later version.
        """
        self._lock = threading.RLock()
        self._path = path
        # Every status of a container names its image: what was asked for last, until images or
        # names change.
        self._found: dict[tuple[str, str], Any] = {}
        try:
            self._connection = sqlite3.connect(
                path, timeout=10, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.Error as error:
            raise self._failure(error, f"cannot open the image database {path}") from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(
                f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;"
            )
        elif version != _VERSION:
            raise StoreError(
                f"the image database {self._path} is of version {version}, this program knows "
                f"version {_VERSION}; use the program that wrote it, or another root directory"
            )

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(
        self, *, durable: bool = True, images: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """Run statements as one transaction; rolled back if the body raises.

        Args:
            durable: flush it to the disk, so that a power cut cannot undo it once it was
                reported. Without, it is still all or nothing, and in order.
            images: images or their names may change.

        Raises:
            NoSpace, StoreError: the disk is full, or SQLite failed.
        """
        with self._lock:
            try:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._failure(error, f"image database {self._path}") from error
            finally:
                # SQLite itself has ended the transaction after some failures, not after others.
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                if images:
                    self._found.clear()

    def _failure(self, error: sqlite3.Error, what: str) -> StoreError | NoSpace:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Without room for its journal SQLite cannot say more than that a file failed.
        silent = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
        if code == sqlite3.SQLITE_FULL or (silent and is_full(self._path.parent)):
            return NoSpace(f"{what}: {error}: {describe(self._path.parent)}")
        return StoreError(f"{what}: {error}")

    def _rows(self, query: str, *arguments: object) -> list[tuple[object, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, arguments).fetchall()
            except sqlite3.Error as error:
                raise self._failure(error, f"image database {self._path}") from error

    def _remembered(self, kind: str, key: str, look: Callable[[], _T]) -> _T:
        with self._lock:
            try:
                found: _T = self._found[kind, key]
            except KeyError:
                found = look()
                if len(self._found) >= _MOST_REMEMBERED:
                    self._found.clear()
                self._found[kind, key] = found
            return found

    # Images and names.

    def save_image(
        self,
        image: Image,
        config: bytes,
        blobs: Iterable[str],
        *,
        tags: Iterable[str],
        digests: Iterable[str],
    ) -> None:
        """Record ``image`` under its new names, which move here from other images."""
        names = [(name, "digest", image.id) for name in digests]
        names += [(name, "tag", image.id) for name in tags]
        with self.transaction() as database:
            database.execute(
                "INSERT INTO images (id, config, chain, size, pinned) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET size = excluded.size",
                (image.id, config.decode(), json.dumps(image.chain), image.size, image.pinned),
            )
            database.executemany(
                "INSERT INTO names (name, kind, image) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET image = excluded.image",
                names,
            )
            database.executemany(
                "INSERT OR IGNORE INTO image_blobs (image, digest) VALUES (?, ?)",
                [(image.id, digest) for digest in blobs],
            )

    def image(self, identifier: str) -> Image | None:
        """Return the image of this id."""
        return self._remembered("image", identifier, lambda: self._image(identifier))

    def _image(self, identifier: str) -> Image | None:
        rows = self._rows("SELECT config, chain, size, pinned FROM images WHERE id = ?", identifier)
        if not rows:
            return None
        config, chain, size, pinned = rows[0]
        names = self._rows("SELECT name, kind FROM names WHERE image = ? ORDER BY name", identifier)
        return Image(
            id=identifier,
            repo_tags=tuple(str(name) for name, kind in names if kind == "tag"),
            repo_digests=tuple(str(name) for name, kind in names if kind == "digest"),
            size=int(str(size)),
            config=parse_config(str(config).encode(), identifier),
            chain=tuple(json.loads(str(chain))),
            pinned=bool(pinned),
        )

    def image_ids(self) -> list[str]:
        """Return the ids of all images, sorted."""
        return [str(row[0]) for row in self._rows("SELECT id FROM images ORDER BY id")]

    def image_named(self, name: str) -> str | None:
        """Return the id of the image that has this normalised name."""

        def look() -> str | None:
            rows = self._rows("SELECT image FROM names WHERE name = ?", name)
            return str(rows[0][0]) if rows else None

        return self._remembered("name", name, look)

    def images_with_prefix(self, prefix: str) -> list[str]:
        """Return at most two ids that start with ``prefix`` (which has no wildcards in it)."""

        def look() -> list[str]:
            rows = self._rows("SELECT id FROM images WHERE id GLOB ? || '*' LIMIT 2", prefix)
            return [str(row[0]) for row in rows]

        return list(self._remembered("prefix", prefix, look))

    def remove_name(self, name: str) -> None:
        """Remove a name; its image goes, too, with its last tag or its last name."""
        with self.transaction() as database:
            row = database.execute(
                "SELECT image, kind FROM names WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                return
            database.execute("DELETE FROM names WHERE name = ?", (name,))
            left = database.execute("SELECT kind FROM names WHERE image = ?", (row[0],)).fetchall()
            if not left or (row[1] == "tag" and ("tag",) not in left):
                database.execute("DELETE FROM images WHERE id = ?", (row[0],))

    def remove_image(self, identifier: str) -> None:
        """Remove an image with all its names."""
        with self.transaction() as database:
            database.execute("DELETE FROM images WHERE id = ?", (identifier,))

    def blobs_of(self, identifier: str) -> list[str]:
        """Return the digests of all blobs that an image holds on to, sorted."""
        rows = self._rows(
            "SELECT digest FROM image_blobs WHERE image = ? ORDER BY digest", identifier
        )
        return [str(row[0]) for row in rows]

    def blob_is_referenced(self, digest: str) -> bool:
        """Tell whether an image holds on to this blob."""
        return bool(self._rows("SELECT 1 FROM image_blobs WHERE digest = ? LIMIT 1", digest))

    def chain_is_referenced(self, chain_id: str) -> bool:
        """Tell whether an image holds on to this layer."""
        return bool(
            self._rows(
                "SELECT 1 FROM images, json_each(images.chain) AS link WHERE link.value = ? "
                "LIMIT 1",
                chain_id,
            )
        )

    # Snapshots.

    def new_snapshot(self, kind: str, key: str, lower: Iterable[int] = ()) -> int:
        """Record a snapshot that is about to be made; returns its number, never used before.

        Raises:
            StoreError: one of the ``lower`` snapshots was removed meanwhile; or SQLite failed.
        """
        layers = list(lower)
        with self.transaction(durable=False, images=False) as database:
            ready = database.execute(
                "SELECT count(*) FROM snapshots WHERE ready = 1 AND number IN "
                "(SELECT value FROM json_each(?))",
                (json.dumps(layers),),
            ).fetchone()[0]
            if ready != len(layers):
                raise StoreError(f"a layer of {kind} {key} was removed meanwhile; pull its image")
            cursor = database.execute(
                "INSERT INTO snapshots (kind, key, lower) VALUES (?, ?, ?)",
                (kind, key, json.dumps(layers)),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def ready_snapshot(
        self, number: int, *, used_bytes: int = 0, inodes: int = 0, opaque: bool = False
    ) -> None:
        """Record that a snapshot is whole.

        Not durable: a layer counts after a restart only if an image holds on to it, and that is
        recorded durably, after the layer's files were flushed.
        """
        with self.transaction(durable=False, images=False) as database:
            database.execute(
                "UPDATE snapshots SET ready = 1, bytes = ?, inodes = ?, opaque = ? "
                "WHERE number = ?",
                (used_bytes, inodes, opaque, number),
            )

    def forget_snapshot(self, number: int, *, durable: bool = True) -> None:
        """Remove a snapshot's row; idempotent."""
        with self.transaction(durable=durable, images=False) as database:
            database.execute("DELETE FROM snapshots WHERE number = ?", (number,))

    def forget_unused_layer(self, number: int) -> bool:
        """Remove a layer's row unless a container stands on it; returns whether it was removed."""
        with self.transaction(images=False) as database:
            cursor = database.execute(
                "DELETE FROM snapshots WHERE number = ? AND NOT EXISTS (SELECT 1 FROM snapshots "
                "AS other, json_each(other.lower) AS link WHERE link.value = ?)",
                (number, number),
            )
            return cursor.rowcount > 0

    def snapshots(self, kind: str | None = None, key: str | None = None) -> list[Snapshot]:
        """Return snapshots, ready or not: all, those of a kind, or the one of kind and key."""
        rows = self._rows(
            "SELECT number, kind, key, ready, bytes, inodes, opaque, lower FROM snapshots "
            "WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR key = ?2) ORDER BY number",
            kind,
            key,
        )
        return _snapshots(rows)

    def container_snapshots(self, container_id: str) -> list[Snapshot]:
        """Return the snapshots of a container: its own, and those of its image volumes."""
        rows = self._rows(
            "SELECT number, kind, key, ready, bytes, inodes, opaque, lower FROM snapshots "
            "WHERE kind = 'container' AND (key = ?1 OR (key > ?1 || ':' AND key < ?1 || ';')) "
            "ORDER BY number",
            container_id,
        )
        return _snapshots(rows)


def _snapshots(rows: list[tuple[object, ...]]) -> list[Snapshot]:
    return [
        Snapshot(
            number=int(str(number)),
            kind=str(found),
            key=str(name),
            ready=bool(ready),
            bytes=int(str(used)),
            inodes=int(str(inodes)),
            opaque=bool(opaque),
            lower=tuple(json.loads(str(lower))),
        )
        for number, found, name, ready, used, inodes, opaque, lower in rows
    ]
