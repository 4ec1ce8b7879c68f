"""The content store: blobs by digest, each verified before it gets its name.

    blobs/<algorithm>/<hex>    whole, verified, read-only
    ingest/<algorithm>-<hex>   on their way in; removed at open

A blob appears by rename after its digest was checked and its bytes are on disk, so that what has a
name is always whole, whatever happened.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from runtime.images.digests import Hash, algorithm_of, hasher, verify
from runtime.images.disk import disk_errors as disk_errors
from runtime.images.errors import DigestMismatch, MalformedImage, TruncatedBlob
from runtime.images.reference import is_digest

_READ_CHUNK: Final = 1 << 20
_HEAD: Final = 8


def sync_directory(path: Path) -> None:
    """Flush a directory, so that the names in it outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ingest:
    """A blob that is being written; hashed on the way."""

    def __init__(self, path: Path, target: Path, digest: str, size: int) -> None:
        """Open or make the file at ``path``; :meth:`resume` comes next.

        Raises:
            OSError: the file cannot be opened.
        """
        self.digest = digest
        self.size = size
        self.offset = 0
        self._path = path
        self._target = target
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o600)
        self._hash: Hash = hasher(digest)

    def resume(self) -> None:
        """Go to the end of what an earlier try has written, hashing it again.

        Raises:
            StoreError: the disk failed.
        """
        with disk_errors(f"resuming blob {self.digest}", self._path):
            self._hash, self.offset = hasher(self.digest), 0
            if os.fstat(self._file).st_size > self.size:
                os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            while chunk := os.read(self._file, _READ_CHUNK):
                self._hash.update(chunk)
                self.offset += len(chunk)

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            NoSpace, StoreError: the disk is full or failed.
        """
        with disk_errors(f"writing blob {self.digest}", self._path):
            view = memoryview(data)
            while view:
                count = os.write(self._file, view)
                self._hash.update(view[:count])
                self.offset += count
                view = view[count:]

    def restart(self) -> None:
        """Drop what was written.

        Raises:
            StoreError: the disk failed.
        """
        with disk_errors(f"restarting blob {self.digest}", self._path):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._hash, self.offset = hasher(self.digest), 0

    def commit(self) -> None:
        """Verify size and digest, flush, and give the blob its name.

        Raises:
            TruncatedBlob: bytes are missing; they can still be written.
            DigestMismatch: it is not what it should be; it is dropped.
            NoSpace, StoreError: the disk failed.
        """
        if self.offset < self.size:
            raise TruncatedBlob(
                f"blob {self.digest}: only {self.offset} of {self.size} bytes arrived"
            )
        found = f"{algorithm_of(self.digest)}:{self._hash.hexdigest()}"
        if found != self.digest or self.offset != self.size:
            self.discard()
            raise DigestMismatch(
                f"blob {self.digest}: got {self.offset} bytes of digest {found}, expected "
                f"{self.size}; it was damaged or replaced on the way"
            )
        with disk_errors(f"committing blob {self.digest}", self._path):
            os.fsync(self._file)
            os.fchmod(self._file, 0o400)
            os.rename(self._path, self._target)
            sync_directory(self._target.parent)

    def discard(self) -> None:
        """Remove the file; idempotent."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Close the file; what was not committed stays for a resume."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class ContentStore:
    """Blobs by digest in a directory; one process at a time may use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._ingest = root / "ingest"
        self._sizes: dict[str, int] = {}
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def open(self) -> None:
        """Make the directories, drop half-done ingests, and learn what is there.

        Raises:
            StoreError: the directories cannot be made or read.
        """
        with disk_errors(f"opening the content store {self.root}", self.root):
            for algorithm in ("sha256", "sha512"):
                (self._blobs / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._ingest.mkdir(mode=0o700, exist_ok=True)
            os.chmod(self.root, 0o700)
            for entry in os.scandir(self._ingest):
                os.unlink(entry.path)
            self._sizes = {
                digest: entry.stat(follow_symlinks=False).st_size
                for algorithm in ("sha256", "sha512")
                for entry in os.scandir(self._blobs / algorithm)
                if is_digest(digest := f"{algorithm}:{entry.name}")
            }

    def path(self, digest: str) -> Path:
        """Return where the blob is, or would be.

        Raises:
            MalformedImage: ``digest`` is none.
        """
        algorithm = algorithm_of(digest)
        return self._blobs / algorithm / digest.partition(":")[2]

    def has(self, digest: str) -> bool:
        """Tell whether the blob is here."""
        return digest in self._sizes

    def digests(self) -> set[str]:
        """Return the digests of all blobs."""
        return set(self._sizes)

    def usage(self) -> tuple[int, int]:
        """Return the bytes and the number of all blobs."""
        return sum(self._sizes.values()), len(self._sizes)

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        """Hold the one right to bring something in; whoever comes second finds it done.

        Args:
            key: a blob's digest; or ``chain <id>`` for the snapshot of a layer, whose chain id may
                be the digest of a blob, too.
        """
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)

    def ingest(self, digest: str, size: int) -> Ingest:
        """Open the file of a blob to come; the caller holds its :meth:`lock`.

        Raises:
            StoreError: the file cannot be made.
        """
        target = self.path(digest)
        with disk_errors(f"starting blob {digest}", self.root):
            name = digest.replace(":", "-")
            return Ingest(self._ingest / name, target, digest, size)

    def unfinished(self) -> list[str]:
        """Return the digests of blobs of which only a part is here.

        Raises:
            StoreError: the directory cannot be read.
        """
        with disk_errors(f"reading {self._ingest}"):
            names = os.listdir(self._ingest)
        return [digest for name in names if is_digest(digest := name.replace("-", ":", 1))]

    def drop_unfinished(self, digest: str) -> int:
        """Remove the part of a blob; idempotent. Returns the bytes that were freed.

        Raises:
            StoreError: the disk failed.
        """
        path = self._ingest / digest.replace(":", "-")
        with disk_errors(f"removing the unfinished blob {digest}"), suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            return size
        return 0

    def commit(self, ingest: Ingest) -> None:
        """Commit ``ingest``: from here on the store has the blob.

        Raises:
            ImageError: as :meth:`Ingest.commit`.
        """
        ingest.commit()
        self._sizes[ingest.digest] = ingest.size

    def size(self, digest: str) -> int:
        """Return the bytes of a blob that is here, else 0."""
        return self._sizes.get(digest, 0)

    def arriving(self) -> Path:
        """Return a new path for a file that :meth:`adopt` will take; removed at the next open."""
        return self._ingest / f"arriving-{secrets.token_hex(8)}"

    def adopt(self, digest: str, size: int, move: Callable[[Path], None]) -> None:
        """Take a verified file as a blob; the caller holds the digest's :meth:`lock`.

        Args:
            digest: of the file's content.
            size: its bytes.
            move: flushes the file and renames it to the path given.

        Raises:
            NoSpace, StoreError: the disk is full or failed.
        """
        move(self.path(digest))
        self._sizes[digest] = size

    def put(self, digest: str, data: bytes, what: str) -> None:
        """Store a small blob that is already in memory, verified once more.

        Raises:
            DigestMismatch: ``data`` is not what ``digest`` names.
            NoSpace, StoreError: the disk is full or failed.
        """
        verify(data, digest, what)
        if self.has(digest):
            return
        ingest = self.ingest(digest, len(data))
        try:
            ingest.restart()
            ingest.write(data)
            self.commit(ingest)
        except BaseException:
            ingest.discard()
            raise
        finally:
            ingest.close()

    def read(self, digest: str, limit: int, what: str) -> bytes:
        """Read a small blob back, verified again: disks fail too.

        Raises:
            MalformedImage: it is longer than ``limit`` bytes.
            DigestMismatch: the disk's copy is damaged.
            StoreError: it cannot be read.
        """
        with disk_errors(f"reading blob {digest}"), open(self.path(digest), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise MalformedImage(f"{what} is longer than {limit} bytes")
        verify(data, digest, what)
        return data

    def head(self, digest: str) -> bytes:
        """Return the first bytes of a blob, not verified.

        Raises:
            StoreError: it cannot be read.
        """
        with disk_errors(f"reading blob {digest}"), open(self.path(digest), "rb") as file:
            return file.read(_HEAD)

    def recheck(self, digest: str) -> bool:
        """Hash a blob again and remove it if the disk damaged it; returns whether it is sound.

        Raises:
            StoreError: it cannot be read.
        """
        found = hasher(digest)
        with disk_errors(f"checking blob {digest}"), open(self.path(digest), "rb") as file:
            while chunk := file.read(_READ_CHUNK):
                found.update(chunk)
        sound = digest == f"{algorithm_of(digest)}:{found.hexdigest()}"
        if not sound:
            self.remove(digest)
        return sound

    def remove(self, digest: str) -> int:
        """Remove a blob; idempotent. Returns the bytes that were freed.

        Raises:
            StoreError: the disk failed.
        """
        with disk_errors(f"removing blob {digest}"), suppress(FileNotFoundError):
            os.unlink(self.path(digest))
        return self._sizes.pop(digest, 0)
