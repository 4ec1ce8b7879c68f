from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import pytest

from kubeletpy.up import image
from kubeletpy.up.errors import UpError


def elf(*kinds: int) -> bytes:
    """Return the start of a 64-bit ELF file with program headers of the given types."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(kinds))
    return bytes(header) + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)


LOAD, INTERPRETER, STACK = 1, 3, 0x6474E551


@pytest.mark.parametrize(
    ("program", "static"),
    [
        (elf(LOAD, STACK), True),
        (elf(LOAD, INTERPRETER, STACK), False),
        (b"#!/bin/sh\n" + bytes(100), False),
        (elf(LOAD)[:80], True),
        (elf(LOAD, LOAD)[:70], False),
        (b"", False),
    ],
)
def test_static_programs_are_told_from_others(program: bytes, static: bool) -> None:
    assert image.is_static(program) is static


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """A program of no use: a script that lists commands, made to look static to the check."""
    path = tmp_path / "busybox"
    path.write_text("#!/bin/sh\nprintf 'sh\\nbusybox\\ncat\\n'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def built(busybox: Path, monkeypatch: pytest.MonkeyPatch) -> image.Image:
    monkeypatch.setattr(image, "is_static", lambda program: True)
    return image.build(busybox)


def test_digests_chain_from_manifest_to_layer(built: image.Image) -> None:
    manifest = json.loads(built.manifest.content)
    config = json.loads(built.config.content)
    assert manifest["config"]["digest"] == built.config.digest
    assert manifest["layers"] == [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": f"sha256:{hashlib.sha256(built.layer.content).hexdigest()}",
            "size": len(built.layer.content),
        }
    ]
    unpacked = hashlib.sha256(gzip.decompress(built.layer.content)).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{unpacked}"]


def test_layer_holds_the_program_and_a_link_for_each_command(
    built: image.Image, busybox: Path
) -> None:
    with tarfile.open(fileobj=io.BytesIO(built.layer.content)) as archive:
        members = {member.name: member for member in archive}
        program = archive.extractfile("bin/busybox")
        assert program is not None
        assert program.read() == busybox.read_bytes()
    assert members["bin/busybox"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    assert {name for name, member in members.items() if member.issym()} == {"bin/sh", "bin/cat"}
    assert members["bin/cat"].linkname == "busybox"
    assert {member.uid for member in members.values()} == {0}


def test_the_same_every_time(built: image.Image, busybox: Path) -> None:
    busybox.touch()
    assert image.build(busybox).manifest.digest == built.manifest.digest


def test_program_with_libraries_is_refused(busybox: Path) -> None:
    with pytest.raises(UpError, match="install Debian's busybox-static in its place"):
        image.build(busybox)


def test_missing_program_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UpError, match="install Debian's busybox-static"):
        image.build(tmp_path / "none")
