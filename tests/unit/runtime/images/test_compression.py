from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from runtime.images.compression import compression_of, compression_of_blob
from tests.support.ociimage import tar_layer

TAR = tar_layer({"a": b"a"})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (gzip.compress(TAR, mtime=0), "gzip"),
        (zstandard.compress(TAR), "zstd"),
        (b"\x5f\x2a\x4d\x18\x00\x00\x00\x00" + zstandard.compress(TAR), "zstd"),
        (TAR, "none"),
        # Nothing is said by these: an empty layer, and the archive of nothing.
        (b"", None),
        (bytes(1024), None),
        (b"no archive at all", None),
    ],
)
@pytest.mark.parametrize("declared", ["gzip", "zstd", "none"])
def test_by_its_first_bytes(tmp_path: Path, data: bytes, found: str | None, declared: str) -> None:
    assert compression_of(data[:512], declared) == (found or declared)
    (tmp_path / "blob").write_bytes(data)
    assert compression_of_blob(tmp_path / "blob", declared) == (found or declared)
