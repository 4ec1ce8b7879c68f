"""What an export consists of, and what pruning takes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from runtime.images.archive.plan import index_annotations
from runtime.images.archive.writer import Part, archive_bytes, write
from runtime.images.errors import DigestMismatch
from runtime.images.image import Image
from runtime.images.pruning import unneeded, unreferenced
from tests.support.ociimage import compress, digest_of


def test_the_size_is_known_before_and_readers_agree(tmp_path: Path) -> None:
    data = b"layer" * 1000
    (tmp_path / "packed").write_bytes(compress(data, "gzip"))
    parts = [
        Part("oci-layout", 2, data=b"{}"),
        Part("blobs/sha256/x", len(data), digest_of(data), tmp_path / "packed", expand=True),
    ]
    written = b"".join(write(parts))
    assert len(written) == archive_bytes(parts)
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        found = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    assert found == {"oci-layout": b"{}", "blobs/sha256/x": data}


def test_a_damaged_blob_ends_the_export(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"damaged")
    part = Part("b", 7, digest_of(b"correct"), tmp_path / "blob")
    with pytest.raises(DigestMismatch, match="is damaged"):
        list(write([part]))


def test_names_in_the_index() -> None:
    assert index_annotations("r.io/a:v1", ["r.io/a:v1", "r.io/b:v2"]) == {
        "io.containerd.image.name": "r.io/a:v1",
        "org.opencontainers.image.ref.name": "v1",
    }
    both = index_annotations("r.io/a:v1", ["r.io/a:v1", "r.io/b:v1"])
    assert both["org.opencontainers.image.ref.name"] == "r.io/a:v1"


def test_what_pruning_takes() -> None:
    tagged, untagged = Image("1", repo_tags=("a:v1",)), Image("2", repo_digests=("a@sha256:x",))
    pinned = Image("3", pinned=True)
    images = [tagged, untagged, pinned]
    assert unneeded(images, set(), everything=False) == [untagged]
    assert unneeded(images, set(), everything=True) == [tagged, untagged]
    assert unneeded(images, {"1", "2"}, everything=True) == []
    assert unreferenced({"a": 1, "b": 2, "c": 4}, [{"a"}, {"b", "d"}]) == 4
