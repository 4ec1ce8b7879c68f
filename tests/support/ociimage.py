"""Real OCI images for tests: built in memory, pushed with plain HTTP calls.

    image = build_image({"etc/motd": b"hello\n"}, config={"Cmd": ["/bin/sh"]})
    image = busybox_image({"www/index.html": b"<h1>hi</h1>"}, config={"Cmd": ["sleep", "1h"]})
    digest = push(image, "127.0.0.1:5000", "library/web", "v1")

None of this uses the code under test: what it builds was made by another hand.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import subprocess
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import zstandard

from tests.support.circumstances import patient

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
BUSYBOX = Path("/bin/busybox")

Compression = Literal["gzip", "zstd", "none"]
_SUFFIX: dict[Compression, str] = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}


@dataclass(frozen=True)
class File:
    """A regular file; ``xattrs`` become PAX records."""

    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_600_000_000
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Directory:
    """A directory."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 1_600_000_000


@dataclass(frozen=True)
class Symlink:
    """A symbolic link, its target verbatim."""

    target: str


@dataclass(frozen=True)
class Hardlink:
    """A hard link to another name of the archive."""

    target: str


@dataclass(frozen=True)
class Node:
    """A character (``c``) or block (``b``) device, or a fifo (``p``)."""

    kind: Literal["c", "b", "p"]
    major: int = 0
    minor: int = 0
    mode: int = 0o600


Entry = bytes | str | Path | File | Directory | Symlink | Hardlink | Node | tarfile.TarInfo
"""What stands under a name: bytes or str are a file of mode 0644, a Path is a file of the host."""

Files = Mapping[str, Entry] | Sequence[tuple[str, Entry]]
"""A layer: names and entries, in order; a sequence when one name shall occur twice."""


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of ``data`` as OCI writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value: Any) -> bytes:
    """Return the bytes of a JSON document."""
    return json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True)
class OciImage:
    """An image as it is pushed: a manifest and the blobs that it names."""

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    blobs: Mapping[str, bytes]
    """Digest -> bytes of the config and of every layer."""

    @property
    def digest(self) -> str:
        """The manifest's digest, by which the image is pulled."""
        return digest_of(self.manifest)

    @property
    def id(self) -> str:
        """The config's digest, which is the image's id."""
        return digest_of(self.config)


def _host_file(path: Path) -> File:
    return File(path.read_bytes(), mode=os.stat(path).st_mode & 0o7777)


def _add(archive: tarfile.TarFile, name: str, entry: Entry) -> None:
    if isinstance(entry, str):
        entry = entry.encode()
    if isinstance(entry, bytes):
        entry = File(entry)
    if isinstance(entry, Path):
        entry = _host_file(entry)
    if isinstance(entry, tarfile.TarInfo):
        entry.name = name
        archive.addfile(entry, io.BytesIO(bytes(entry.size)) if entry.isreg() else None)
        return
    info = tarfile.TarInfo(name)
    info.mtime = 1_600_000_000
    data: io.BytesIO | None = None
    if isinstance(entry, File):
        info.size, data = len(entry.data), io.BytesIO(entry.data)
        info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
        info.pax_headers = {
            f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
            for key, value in entry.xattrs.items()
        }
    elif isinstance(entry, Directory):
        info.type, info.mode = tarfile.DIRTYPE, entry.mode
        info.uid, info.gid, info.mtime = entry.uid, entry.gid, entry.mtime
    elif isinstance(entry, Symlink):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
    elif isinstance(entry, Hardlink):
        info.type, info.linkname = tarfile.LNKTYPE, entry.target
    else:
        kinds = {"c": tarfile.CHRTYPE, "b": tarfile.BLKTYPE, "p": tarfile.FIFOTYPE}
        info.type, info.mode = kinds[entry.kind], entry.mode
        info.devmajor, info.devminor = entry.major, entry.minor
    archive.addfile(info, data)


def tar_layer(files: Files) -> bytes:
    """Return an uncompressed tar of ``files``, in their order, names taken verbatim."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, entry in files.items() if isinstance(files, Mapping) else files:
            _add(archive, name, entry)
    return buffer.getvalue()


def compress(tar: bytes, compression: Compression) -> bytes:
    """Return ``tar`` as the blob of a layer."""
    if compression == "gzip":
        return gzip.compress(tar, compresslevel=1, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(tar)
    return tar


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    """Return an OCI descriptor of ``data``."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def build_image(
    files: Files | None = None,
    *,
    layers: Sequence[Files | bytes] = (),
    config: Mapping[str, Any] | None = None,
    compression: Compression = "gzip",
    architecture: str = "amd64",
    os_name: str = "linux",
) -> OciImage:
    """Build an image.

    Args:
        files: one more layer, on top of ``layers``.
        layers: the layers, bottom first: files, or the bytes of a ready (uncompressed) tar.
        config: the ``config`` object of the image: ``Cmd``, ``Entrypoint``, ``Env``, ``User`` ...
        compression: how the layers are packed.
        architecture: as Go names it.
        os_name: as Go names it.
    """
    stack = [*layers, *([files] if files is not None else [])]
    tars = [layer if isinstance(layer, bytes) else tar_layer(layer) for layer in stack]
    document = {
        "architecture": architecture,
        "os": os_name,
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": "tests"} for _ in tars],
    }
    blobs = [compress(tar, compression) for tar in tars]
    return assemble(dumps(document), blobs, layer_type=OCI_LAYER + _SUFFIX[compression])


def assemble(config: bytes, layers: Sequence[bytes], *, layer_type: str) -> OciImage:
    """Return the image of a ready config and ready layer blobs, true to each other or not."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": [descriptor(layer_type, layer) for layer in layers],
    }
    blobs = {digest_of(config): config, **{digest_of(layer): layer for layer in layers}}
    return OciImage(dumps(manifest), OCI_MANIFEST, config, tuple(layers), blobs)


@cache
def _busybox_layer() -> bytes:
    if not BUSYBOX.exists():
        raise RuntimeError(f"{BUSYBOX} is missing: apt-get install busybox-static")
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    entries: dict[str, Entry] = {
        name: Directory() for name in ("bin", "etc", "dev", "proc", "sys", "var", "home")
    }
    entries |= {"root": Directory(mode=0o700), "tmp": Directory(mode=0o1777)}
    entries["bin/busybox"] = _host_file(BUSYBOX)
    for applet in listed.stdout.split():
        if applet != "busybox":
            entries[f"bin/{applet}"] = Symlink("busybox")
    entries["etc/passwd"] = (
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n"
        b"web:x:1000:1000::/home:/bin/sh\n"
    )
    entries["etc/group"] = b"root:x:0:\ndaemon:x:1:\nweb:x:1000:\nextra:x:2000:web\n"
    return tar_layer(entries)


def busybox_image(
    files: Files | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    compression: Compression = "gzip",
) -> OciImage:
    """Build an image of Debian's busybox-static, all applets linked, plus a layer of ``files``.

    Users: root, daemon (1), web (1000, also in group extra 2000). PATH is set unless
    ``config`` has an ``Env``; ``Cmd`` is ``/bin/sh`` unless given.
    """
    merged = {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], **(config or {})}
    return build_image(files, layers=[_busybox_layer()], config=merged, compression=compression)


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    expect: int,
) -> http.client.HTTPResponse:
    connection.request(method, url, body=body, headers=dict(headers or {}))
    response = connection.getresponse()
    text = response.read()
    if response.status != expect:
        raise RuntimeError(f"{method} {url}: {response.status} {text[:500]!r}, expected {expect}")
    return response


def push_blob(host: str, name: str, data: bytes) -> None:
    """Upload one blob to ``name`` at the registry ``host`` (``127.0.0.1:PORT``)."""
    connection = http.client.HTTPConnection(host, timeout=patient(30))
    try:
        start = _request(connection, "POST", f"/v2/{name}/blobs/uploads/", expect=202)
        location = urllib.parse.urlsplit(start.headers["Location"])
        query = f"{location.query}&" if location.query else ""
        url = f"{location.path}?{query}digest={urllib.parse.quote(digest_of(data))}"
        headers = {"Content-Type": "application/octet-stream"}
        _request(connection, "PUT", url, data, headers, expect=201)
    finally:
        connection.close()


def push_manifest(host: str, name: str, manifest: bytes, media_type: str, reference: str) -> str:
    """Upload a manifest or index under a tag (or its digest); returns its digest."""
    connection = http.client.HTTPConnection(host, timeout=patient(30))
    try:
        url, headers = f"/v2/{name}/manifests/{reference}", {"Content-Type": media_type}
        _request(connection, "PUT", url, manifest, headers, expect=201)
    finally:
        connection.close()
    return digest_of(manifest)


def push(image: OciImage, host: str, name: str, tag: str) -> str:
    """Push ``image`` as ``host/name:tag``; returns the manifest's digest.

    Blocking; in a test with a registry inside the event loop use ``asyncio.to_thread``.
    """
    for blob in image.blobs.values():
        push_blob(host, name, blob)
    return push_manifest(host, name, image.manifest, image.media_type, tag)
