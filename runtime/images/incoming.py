"""A blob whose digest is known only once it is here: a file of an archive."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.images.content import disk_errors, sync_directory

_HEAD: Final = 8


class Incoming:
    """A file on its way in, hashed as it is written; its methods block.

    Attributes:
        size: bytes written so far.
        head: the first of them, by which a compression is known.
    """

    def __init__(self, path: Path, algorithm: str, what: str) -> None:
        """Make the file at ``path``, which must not exist.

        Raises:
            NoSpace, StoreError: it cannot be made.
        """
        self.size = 0
        self.head = b""
        self._path = path
        self._what = what
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        with disk_errors(f"receiving {what}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(path, flags, 0o600)

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            NoSpace, StoreError: the disk is full or failed.
        """
        with disk_errors(f"receiving {self._what}"):
            view = memoryview(data)
            while view:
                count = os.write(self._file, view)
                self._hash.update(view[:count])
                self.size += count
                view = view[count:]
        if len(self.head) < _HEAD:
            self.head = (self.head + data)[:_HEAD]

    def move(self, target: Path) -> None:
        """Flush the file and give it its name for good.

        Raises:
            NoSpace, StoreError: the disk is full or failed.
        """
        with disk_errors(f"storing {self._what}"):
            os.fsync(self._file)
            os.fchmod(self._file, 0o400)
            os.rename(self._path, target)
            sync_directory(target.parent)

    def close(self) -> None:
        """Close the file, and remove it if it was not moved; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with suppress(FileNotFoundError):
                os.unlink(self._path)
