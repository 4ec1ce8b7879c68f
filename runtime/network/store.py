"""What the network must remember when the daemon dies: attachments, host ports, settings.

Everything lives in one SQLite file in WAL mode. ``synchronous=NORMAL`` is enough: what a
process wrote survives its SIGKILL in the page cache, and after a power cut no pod is left whose
address could be given out twice.

The connection belongs to the thread that made it, which is the event loop's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from runtime.network.config import Attachment
from runtime.network.errors import NetworkError
from runtime.network.port_rules import Forward

_VERSION = 1
_BUSY_MILLISECONDS = 5000
_TABLES = """
CREATE TABLE IF NOT EXISTS network_schema (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS network_cursors (
    subnet TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network_addresses (
    subnet TEXT NOT NULL,
    position INTEGER NOT NULL,
    sandbox_id TEXT NOT NULL,
    family INTEGER NOT NULL,
    PRIMARY KEY (subnet, position),
    UNIQUE (sandbox_id, family)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network_attachments (
    sandbox_id TEXT PRIMARY KEY,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network_ports (
    sandbox_id TEXT NOT NULL,
    family INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    host_ip TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    pod_ip TEXT NOT NULL,
    pod_port INTEGER NOT NULL,
    label TEXT NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sandbox_id, family, protocol, host_ip, host_port)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network_settings (
    number INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    netns INTEGER NOT NULL,
    path TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    UNIQUE (boot, netns, path)
);
"""


@dataclass(frozen=True)
class ChangedSetting:
    """A kernel setting that we changed: the file under /proc/sys, and its value then and now."""

    path: str
    before: str
    after: str


class NetworkStore:
    """The tables of one network in the SQLite file ``path`` (made if missing).

    Raises:
        NetworkError: the file is no database, is not writable, or is from a newer version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.connection = sqlite3.connect(path, isolation_level=None)
            self.connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=NORMAL")
            self.connection.executescript(_TABLES)
            self._check_version(path)
        except sqlite3.Error as error:
            raise NetworkError(
                f"opening the network's database {path}: {error}; if the file is damaged, stop "
                "all pods, move it away and start again"
            ) from error

    def _check_version(self, path: Path) -> None:
        row = self.connection.execute("SELECT version FROM network_schema").fetchone()
        if row is None:
            self.connection.execute("INSERT INTO network_schema VALUES (?)", (_VERSION,))
        elif row[0] != _VERSION:
            raise NetworkError(
                f"the network's database {path} has schema {row[0]}, this program knows "
                f"{_VERSION}; use the program that wrote it, or move the file away"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of the block's statements or none; one writer at a time, other processes too."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def record(self, sandbox_id: str, attachment: Attachment) -> None:
        """Remember that the sandbox is wholly attached."""
        self.connection.execute(
            "INSERT OR REPLACE INTO network_attachments VALUES (?, ?)",
            (sandbox_id, json.dumps(asdict(attachment))),
        )

    def forget(self, sandbox_id: str) -> None:
        """Drop the sandbox's attachment, if there is one; its addresses stay taken.

        Its host ports stay written down as gone until :meth:`purge_forwards`, since the rules
        are still there.
        """
        with self.transaction() as connection:
            connection.execute(
                "DELETE FROM network_attachments WHERE sandbox_id = ?", (sandbox_id,)
            )
            connection.execute(
                "UPDATE network_ports SET gone = 1 WHERE sandbox_id = ?", (sandbox_id,)
            )

    def attachment(self, sandbox_id: str) -> Attachment | None:
        """Return how the sandbox is attached, or None if it is not."""
        row = self.connection.execute(
            "SELECT record FROM network_attachments WHERE sandbox_id = ?", (sandbox_id,)
        ).fetchone()
        return None if row is None else Attachment(**json.loads(row[0]))

    def attached(self) -> set[str]:
        """Return the ids of all attached sandboxes."""
        return {
            row[0] for row in self.connection.execute("SELECT sandbox_id FROM network_attachments")
        }

    def add_forwards(self, forwards: Iterable[Forward]) -> None:
        """Write down host ports, all or none."""
        with self.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO network_ports VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                [astuple(forward) for forward in forwards],
            )

    def forwards(self, *, gone: bool = False) -> list[Forward]:
        """Return all host ports that are in use; or those that are gone and may have rules."""
        rows = self.connection.execute(
            "SELECT sandbox_id, family, protocol, host_ip, host_port, pod_ip, pod_port, label "
            "FROM network_ports WHERE gone = ? "
            "ORDER BY family, protocol, host_port, host_ip = '', host_ip",
            (int(gone),),
        )
        return [Forward(*row) for row in rows]

    def purge_forwards(self, forwards: Iterable[Forward]) -> None:
        """Drop those of ``forwards`` that are gone: they have no rules any more."""
        with self.transaction() as connection:
            connection.executemany(
                "DELETE FROM network_ports WHERE gone = 1 AND sandbox_id = ? AND family = ? "
                "AND protocol = ? AND host_ip = ? AND host_port = ?",
                [(f.sandbox_id, f.family, f.protocol, f.host_ip, f.host_port) for f in forwards],
            )

    def remember_setting(self, boot: str, netns: int, setting: ChangedSetting) -> None:
        """Note a setting that is about to be changed; the first value before ours is kept.

        Args:
            boot: the kernel's boot id, since a reboot undoes all settings.
            netns: inode of the network namespace that the setting belongs to.
            setting: what changes.
        """
        self.connection.execute(
            "INSERT OR IGNORE INTO network_settings (boot, netns, path, before, after) "
            "VALUES (?, ?, ?, ?, ?)",
            (boot, netns, setting.path, setting.before, setting.after),
        )

    def settings(self, boot: str, netns: int) -> list[ChangedSetting]:
        """Return what we changed in this namespace since this boot, the oldest first."""
        rows = self.connection.execute(
            "SELECT path, before, after FROM network_settings WHERE boot = ? AND netns = ? "
            "ORDER BY number",
            (boot, netns),
        )
        return [ChangedSetting(*row) for row in rows]

    def forget_settings(self) -> None:
        """Drop all notes on settings, also those of earlier boots."""
        self.connection.execute("DELETE FROM network_settings")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
