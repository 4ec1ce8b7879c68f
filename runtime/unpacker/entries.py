"""What the reader of a layer tells its writer: entries and their contents, as frames in a pipe.

A frame is its kind (one byte), its length (four bytes, big endian), and its body:

    H   JSON: a list of entries
    D   the contents of those entries, one after the other, in as many frames as it takes
    E   JSON: the class and the text of the error that ended the reading
    Z   the end: the layer was read and verified to its last byte

The reader handles bytes that nobody vouches for, so what it sends is checked here like any input.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn

from runtime.images.errors import ImageError, MalformedImage, StoreError, UnsafeLayer, by_name
from runtime.unpacker.names import BadName, shown

_HEAD: Final = struct.Struct(">cI")
_BATCH_BYTES: Final = 256 << 10
_BATCH_ENTRIES: Final = 128
_MAX_FRAME: Final = 64 << 20
"""Bytes of one frame; a batch of entries with the largest headers, escaped, stays below it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer's archive.

    Attributes:
        kind: ``file``, ``directory``, ``hardlink``, ``symlink``, ``fifo``, ``char``, ``block``; or
            the type flag of what is none of these.
        name: as it stands in the archive.
        mode: permission bits.
        uid: owner.
        gid: group.
        time: of its last change, nanoseconds since 1970.
        size: bytes of a file, holes included.
        link: the target of a link.
        device: major and minor number.
        xattrs: extended attributes.
        regions: offset and size of the parts of a sparse file that are no holes; None: no holes.
    """

    kind: str
    name: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    time: int = 0
    size: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    regions: tuple[tuple[int, int], ...] | None = None

    def parts(self) -> tuple[tuple[int, int], ...]:
        """Return offset and size of what the archive holds of a file.

        Raises:
            BadName: the size, or the map of holes, makes no sense.
        """
        if self.size < 0:
            raise BadName("its size is negative")
        if self.regions is None:
            return ((0, self.size),)
        end = 0
        for offset, size in self.regions:
            if offset < end or size < 0 or offset + size > self.size:
                raise BadName("its map of holes is not in order")
            end = offset + size
        return self.regions

    def to_row(self) -> list[Any]:
        """Return it as JSON takes it."""
        return [
            self.kind, _text(self.name), self.mode, self.uid, self.gid, self.time, self.size,
            _text(self.link), self.device, [(key, _text(value)) for key, value in self.xattrs],
            self.regions,
        ]  # fmt: skip

    @classmethod
    def from_row(cls, row: Any) -> Entry:
        """Return the entry of a row.

        Raises:
            ValueError, TypeError: it is none.
        """
        kind, name, mode, uid, gid, time, size, link, (major, minor), xattrs, regions = row
        for number in (mode, uid, gid, time, size, major, minor):
            if type(number) is not int:
                raise ValueError(f"{number!r} is not a number")
        holes = None
        if regions is not None:
            holes = tuple((_integer(offset), _integer(length)) for offset, length in regions)
        pairs = tuple((str(key), _bytes(value)) for key, value in xattrs) if xattrs else ()
        return cls(str(kind), _bytes(name), mode, uid, gid, time, size, _bytes(link),
                   (major, minor), pairs, holes)  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: Any) -> bytes:
    if type(text) is not str:
        raise ValueError(f"{text!r} is not a text")
    return text.encode("utf-8", "surrogateescape")


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a number")
    return value


def _stored(entry: Entry) -> int:
    try:
        return sum(size for _, size in entry.parts())
    except BadName as error:
        raise UnsafeLayer(f"entry {shown(entry.name)}: {error}") from None


class FrameWriter:
    """The reader's end of the pipe; small entries and contents travel together."""

    def __init__(self, pipe: int) -> None:
        """Write to the descriptor ``pipe``, which stays the caller's."""
        self._pipe = pipe
        self._rows: list[list[Any]] = []
        self._contents: list[bytes] = []
        self._size = 0

    def entry(self, entry: Entry) -> None:
        """Send an entry; the contents of its :meth:`Entry.parts` come next.

        Raises:
            OSError: the writer is gone.
        """
        # The rest of an earlier entry's contents must not come behind this entry.
        rest = self._contents and not self._rows
        full = len(self._rows) >= _BATCH_ENTRIES or self._size + entry.size > _BATCH_BYTES
        if rest or full:
            self.flush()
        self._rows.append(entry.to_row())
        # What headers hold beside names counts, too: a batch of large ones is sent in parts.
        self._size += len(entry.name) + len(entry.link) + 16 * len(entry.regions or ())
        self._size += sum(len(value) for _, value in entry.xattrs)

    def content(self, data: bytes) -> None:
        """Send a part of the last entry's contents.

        Raises:
            OSError: the writer is gone.
        """
        self._contents.append(data)
        self._size += len(data)
        if self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is still here.

        Raises:
            OSError: the writer is gone.
        """
        if self._rows:
            self._send(b"H", json.dumps(self._rows, separators=(",", ":")).encode())
        if self._contents:
            self._send(b"D", *self._contents)
        self._rows, self._contents, self._size = [], [], 0

    def end(self) -> None:
        """Tell that the layer was read and verified.

        Raises:
            OSError: the writer is gone.
        """
        self.flush()
        self._send(b"Z")

    def fail(self, error: ImageError) -> None:
        """Tell why the reading ended.

        Raises:
            OSError: the writer is gone.
        """
        # What came before is sent, so that an entry at fault is named before what follows it.
        self.flush()
        self._send(b"E", json.dumps([type(error).__name__, str(error)]).encode())

    def _send(self, kind: bytes, *body: bytes) -> None:
        pieces = [_HEAD.pack(kind, sum(map(len, body))), *body]
        while pieces:
            count = os.writev(self._pipe, pieces[:512])
            while pieces and count >= len(pieces[0]):
                count -= len(pieces.pop(0))
            if count:
                pieces[0] = pieces[0][count:]


class FrameReader:
    """The writer's end of the pipe."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._data = memoryview(b"")
        self._owed = 0

    def entries(self) -> Iterator[Entry]:
        """Yield all entries; the contents of each may be taken before the next is asked for.

        Raises:
            ImageError: the reader failed, or sent nonsense.
        """
        while True:
            self._skip()
            kind, body = self._frame()
            if kind == b"Z":
                return
            if kind != b"H":
                raise MalformedImage("its reader sent contents where an entry should be")
            try:
                rows = json.loads(body)
                batch = [Entry.from_row(row) for row in rows]
            except (ValueError, TypeError) as error:
                raise MalformedImage(f"its reader sent no entries: {error}") from None
            for entry in batch:
                self._skip()
                if entry.kind == "file":
                    self._owed = _stored(entry)
                yield entry

    def content(self, size: int) -> Iterator[memoryview]:
        """Yield the next ``size`` bytes of the entry's contents.

        Raises:
            ImageError: the reader failed.
        """
        while size:
            while not self._data:
                kind, body = self._frame()
                if kind != b"D":
                    raise MalformedImage("its reader sent an entry where contents should be")
                self._data = memoryview(body)
            part, self._data = self._data[:size], self._data[size:]
            size -= len(part)
            self._owed -= len(part)
            yield part

    def _skip(self) -> None:
        for _ in self.content(self._owed):
            pass

    def _frame(self) -> tuple[bytes, bytes]:
        head = self._pipe.read(_HEAD.size)
        if len(head) < _HEAD.size:
            self._lost()
        kind, length = _HEAD.unpack(head)
        if length > _MAX_FRAME:
            raise MalformedImage(f"its reader sent a frame of {length} bytes")
        body = self._pipe.read(length)
        if len(body) < length:
            self._lost()
        if kind == b"E":
            self._fail(body)
        return kind, body

    def _fail(self, body: bytes) -> NoReturn:
        try:
            name, text = json.loads(body)
        except ValueError:
            self._lost()
        raise by_name(str(name))(str(text))

    def _lost(self) -> NoReturn:
        raise StoreError(
            "the process that reads it was killed, perhaps for want of memory; see the kernel's log"
        )
