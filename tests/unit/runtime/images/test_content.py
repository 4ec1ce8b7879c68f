from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import zlib
from pathlib import Path

import pytest
import zstandard

from runtime.images.content import ContentStore
from runtime.images.digests import chain_ids
from runtime.images.errors import DigestMismatch, MalformedImage, TruncatedBlob, UnsafeLayer
from runtime.images.settings import UnpackLimits
from runtime.unpacker.stream import READ_AHEAD, LayerStream
from tests.support.ociimage import digest_of

DATA = random.Random(1).randbytes(700_000) + bytes(500_000)
DIGEST = digest_of(DATA)
GZIP = gzip.compress(DATA, 1)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    found = ContentStore(tmp_path / "content")
    found.open()
    return found


def test_put_and_read(store: ContentStore) -> None:
    store.put(DIGEST, DATA, "it")
    assert store.has(DIGEST)
    assert store.usage() == (len(DATA), 1)
    assert store.read(DIGEST, len(DATA), "it") == DATA
    assert store.path(DIGEST).stat().st_mode & 0o777 == 0o400
    with pytest.raises(MalformedImage, match="longer"):
        store.read(DIGEST, 10, "it")
    again = ContentStore(store.root)
    again.open()
    assert again.digests() == {DIGEST}
    assert again.remove(DIGEST) == len(DATA)
    assert again.remove(DIGEST) == 0


def test_put_refuses_what_is_not_its_digest(store: ContentStore) -> None:
    with pytest.raises(DigestMismatch):
        store.put(DIGEST, DATA[1:], "it")
    assert store.digests() == set()
    assert list((store.root / "ingest").iterdir()) == []


def test_ingest_is_resumed_then_verified(store: ContentStore) -> None:
    first = store.ingest(DIGEST, len(DATA))
    first.write(DATA[:1000])
    with pytest.raises(TruncatedBlob):
        first.commit()
    first.close()
    second = store.ingest(DIGEST, len(DATA))
    second.resume()
    assert second.offset == 1000
    second.write(DATA[1000:])
    second.commit()
    second.close()
    assert store.path(DIGEST).read_bytes() == DATA


def test_ingest_with_wrong_bytes_is_dropped(store: ContentStore) -> None:
    ingest = store.ingest(DIGEST, len(DATA))
    ingest.write(bytes(len(DATA)))
    with pytest.raises(DigestMismatch):
        ingest.commit()
    ingest.close()
    assert list((store.root / "ingest").iterdir()) == []
    assert not store.path(DIGEST).exists()


def test_open_drops_half_done_ingests(store: ContentStore) -> None:
    ingest = store.ingest(DIGEST, len(DATA))
    ingest.write(DATA[:10])
    ingest.close()
    ContentStore(store.root).open()
    assert list((store.root / "ingest").iterdir()) == []


def test_damage_on_the_disk_is_found(store: ContentStore) -> None:
    store.put(DIGEST, DATA, "it")
    assert store.recheck(DIGEST)
    os.chmod(store.path(DIGEST), 0o600)
    store.path(DIGEST).write_bytes(DATA[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        store.read(DIGEST, len(DATA), "it")
    assert not store.recheck(DIGEST)
    assert not store.has(DIGEST)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "md5:0", "", "sha256:" + "A" * 64]
)
def test_digests_are_no_paths(store: ContentStore, digest: str) -> None:
    with pytest.raises(MalformedImage):
        store.path(digest)


async def test_the_lock_lets_one_in(store: ContentStore) -> None:
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with store.lock("k"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


def test_chain_ids() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    assert chain_ids([one, two]) == (one, digest_of(f"{one} {two}".encode()))
    assert chain_ids([]) == ()


def stream(data: bytes, compression: str, limits: UnpackLimits | None = None) -> LayerStream:
    source = io.BytesIO(data)
    return LayerStream(source, compression, DIGEST, limits or UnpackLimits())


def gzip_members(data: bytes) -> bytes:
    return b"".join(
        gzip.compress(data[at : at + 100_000], 1) for at in range(0, len(data), 100_000)
    )


COMPRESSED = {
    "plain": ("none", DATA),
    "gzip": ("gzip", GZIP),
    "gzip of many members": ("gzip", gzip_members(DATA)),
    "gzip padded with zeros": ("gzip", GZIP + bytes(600_000)),
    "gzip with an empty member": ("gzip", gzip.compress(b"") + GZIP),
    "zstd": ("zstd", zstandard.compress(DATA)),
    "zstd of two frames": ("zstd", zstandard.compress(DATA[:9]) + zstandard.compress(DATA[9:])),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_decompresses(case: str) -> None:
    compression, data = COMPRESSED[case]
    layer, found = stream(data, compression), b""
    while chunk := layer.read(1 << 20):
        found += chunk
    layer.finish()
    assert found == DATA


@pytest.mark.parametrize(
    ("compression", "data"),
    [
        ("gzip", DATA),
        ("gzip", GZIP[:-5]),
        ("gzip", GZIP + b"garbage"),
        ("gzip", GZIP[:-8] + bytes(8)),
        ("gzip", zlib.compress(DATA)),
        ("zstd", DATA),
        ("zstd", zstandard.compress(DATA)[:-5]),
        ("zstd", GZIP),
        ("none", DATA[:-1]),
        ("none", b""),
    ],
)
def test_damaged_bytes(compression: str, data: bytes) -> None:
    with pytest.raises((MalformedImage, DigestMismatch)):
        stream(data, compression).finish()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bombs_are_stopped_at_the_limit(compression: str) -> None:
    zeros = bytes(1 << 24)
    data = gzip.compress(zeros) if compression == "gzip" else zstandard.compress(zeros)
    bomb = stream(data, compression, UnpackLimits(max_bytes=1 << 20))
    with pytest.raises(UnsafeLayer, match="1048576"):
        bomb.finish()
    assert bomb.count <= (1 << 20) + (1 << 18)


def test_headers_have_a_budget() -> None:
    layer = stream(DATA, "none", UnpackLimits(max_header_bytes=1000))
    layer.read(5000)
    layer.begin_header()
    layer.read(READ_AHEAD + 1000)
    with pytest.raises(UnsafeLayer, match="headers"):
        layer.read(1)
    layer.end_header()
    layer.read(50_000)
