"""An OCI image with nothing in it but busybox, made byte for byte the same every time.

Sources: OCI image specification 1.1, sections "Image Manifest", "Image Configuration" and "Layer".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import struct
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeletpy.up.errors import UpError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_EPOCH = "1970-01-01T00:00:00Z"
_ELF_INTERPRETER = 3  # PT_INTERP of elf(5): the dynamic loader that a program asks for
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
_DIRECTORIES = {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777}


@dataclass(frozen=True)
class Blob:
    """Content with its media type."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The content's address, ``sha256:<hex>``."""
        return digest_of(self.content)

    def descriptor(self) -> dict[str, Any]:
        """Return the descriptor by which a manifest refers to this blob."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True)
class Image:
    """An image of one layer."""

    layer: Blob
    config: Blob
    manifest: Blob


def digest_of(content: bytes) -> str:
    """Return the sha256 digest of ``content`` as OCI writes it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def build(busybox: Path = Path("/bin/busybox")) -> Image:
    """Return an image of the static program ``busybox`` and a link for each of its commands.

    Raises:
        UpError: the program is missing, cannot run, or needs libraries that the image has not.
    """
    try:
        program = busybox.read_bytes()
        listing = subprocess.run(
            [str(busybox), "--list"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UpError(
            f"cannot make the image from {busybox}: {error}; install Debian's busybox-static"
        ) from error
    if not is_static(program):
        raise UpError(
            f"{busybox} is linked to libraries, which the image does not hold; install Debian's "
            "busybox-static in its place"
        )
    tar = _layer(program, sorted(set(listing.stdout.split()) - {"busybox"}))
    # No name and no time in the header of the gzip stream: equal content, equal digest.
    layer = Blob(_LAYER, gzip.compress(tar, mtime=0))
    config = Blob(_CONFIG, _json(_configuration(digest_of(tar))))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    return Image(layer, config, Blob(MANIFEST, _json(manifest)))


def is_static(program: bytes) -> bool:
    """Tell whether ``program`` is an ELF file that asks for no dynamic loader."""
    if program[:4] != b"\x7fELF" or len(program) < 64:
        return False
    wide = program[4] == 2
    order = "<" if program[5] == 1 else ">"
    offset_format, offset_at, sizes_at = ("Q", 32, 54) if wide else ("I", 28, 42)
    (table,) = struct.unpack_from(f"{order}{offset_format}", program, offset_at)
    size, count = struct.unpack_from(f"{order}HH", program, sizes_at)
    try:
        kinds = [
            struct.unpack_from(f"{order}I", program, table + index * size)[0]
            for index in range(count)
        ]
    except struct.error:
        return False
    return _ELF_INTERPRETER not in kinds


def _layer(program: bytes, commands: list[str]) -> bytes:
    """Return an uncompressed tar archive; all times are 0 and all owners root."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in _DIRECTORIES.items():
            archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name, content in {"bin/busybox": program, **_FILES}.items():
            entry = _entry(name, tarfile.REGTYPE, 0o755 if name == "bin/busybox" else 0o644)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for command in commands:
            entry = _entry(f"bin/{command}", tarfile.SYMTYPE, 0o777)
            entry.linkname = "busybox"
            archive.addfile(entry)
    return output.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    entry.uname = entry.gname = "root"
    return entry


def _configuration(layer_digest: str) -> dict[str, Any]:
    machine = platform.machine()
    return {
        "created": _EPOCH,
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": os.uname().sysname.lower(),
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created": _EPOCH, "created_by": "kubeletpy up: busybox-static"}],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
