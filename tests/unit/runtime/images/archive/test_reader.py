"""Archives that are damaged, hostile or only unusual, taken apart as they arrive."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
import zstandard

from runtime.images.archive.reader import ArchiveLimits, ArchiveReader, resolve_link
from runtime.images.errors import MalformedImage
from tests.support.archives import Entries, link, tar_of

SMALL = ArchiveLimits(max_bytes=1 << 20, max_entries=5, max_header_bytes=8192, max_name=200)


class Dripping:
    """A source that gives a few bytes at a time, as a slow client does."""

    def __init__(self, data: bytes, size: int = 700) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


def taken(data: bytes, limits: ArchiveLimits = SMALL) -> dict[str, bytes | str]:
    reader = ArchiveReader(Dripping(data), limits)
    found: dict[str, bytes | str] = {}
    while (entry := reader.next()) is not None:
        found[entry.name] = entry.link or reader.document(entry, 1 << 40)
    reader.finish()
    return found


ENTRIES: Entries = [("./a/b", b"x" * 5000), ("/c", b""), ("a/l", link("../c"))]


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["tar", "gzip", "zstd"]
)
def test_files_and_links_plain_or_compressed(pack: object) -> None:
    assert callable(pack)
    assert taken(pack(tar_of(ENTRIES))) == {"a/b": b"x" * 5000, "c": b"", "a/l": "c"}


def test_what_is_not_read_is_skipped_and_counts_for_no_header() -> None:
    reader = ArchiveReader(Dripping(tar_of([("a", bytes(500_000)), ("b", b"b")])), SMALL)
    assert reader.next() is not None
    entry = reader.next()
    assert entry is not None
    assert (entry.name, reader.document(entry, 10)) == ("b", b"b")
    assert reader.next() is None


def special(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = kind
    return info


def header_bomb() -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * 500_000}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tar_of([("../a", b"")]), "leads out of it"),
        (tar_of([("a/../../b", b"")]), "leads out of it"),
        (tar_of([("a", link("../../etc/passwd"))]), "leads out of it"),
        (tar_of([("a", special(tarfile.CHRTYPE))]), "neither file, link nor directory"),
        (tar_of([("a", special(tarfile.FIFOTYPE))]), "neither file, link nor directory"),
        (tar_of([("n" * 300, b"")]), "too long a name"),
        (tar_of([(str(number), b"") for number in range(6)]), "more than 5 entries"),
        (tar_of([("a", bytes(2 << 20))]), "more than the limit of 1048576 bytes"),
        (gzip.compress(tar_of([("a", bytes(8 << 20))]), 1), "more than the limit of 1048576 bytes"),
        (header_bomb(), "exceed the limit of 8192 bytes"),
        (tar_of(ENTRIES)[:3000], "damaged|ends in the middle"),
        (tar_of(ENTRIES)[:700], "damaged|ends in the middle"),
        (gzip.compress(tar_of(ENTRIES))[:-20], "damaged|ends early"),
        (gzip.compress(tar_of(ENTRIES))[:-6] + b"wrong!", "damaged"),
        (b"<html>" * 200, "damaged header, or is no tar"),
        (tar_of([("a", b"")])[:512] + b"x" * 512, "damaged header"),
    ],
    ids=range(16),
)  # fmt: skip
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedImage, match=why):
        taken(data)


def test_links_are_followed_but_not_in_circles() -> None:
    assert resolve_link({"a": "b", "b": "c"}, "a") == "c"
    with pytest.raises(MalformedImage, match="circle"):
        resolve_link({"a": "b", "b": "a"}, "a")
