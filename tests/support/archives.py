"""Image archives and layouts for tests, whole or broken; made by another hand than the code's."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.ociimage import OCI_INDEX, OCI_MANIFEST, OciImage, descriptor, digest_of, dumps

Entries = Sequence[tuple[str, bytes | tarfile.TarInfo]]


def tar_of(entries: Entries) -> bytes:
    """Return a tar of files, names verbatim; a TarInfo stands for itself."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """Return a link, for :func:`tar_of`."""
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def oci_entries(
    image: OciImage, name: str | None = "v1", **blobs: bytes | None
) -> list[tuple[str, bytes]]:
    """Return the files of a layout with one image, the index last as some tools write it."""
    entry = descriptor(OCI_MANIFEST, image.manifest)
    if name is not None:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    files = {digest_of(image.manifest): image.manifest, **image.blobs}
    return [
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        *((blob_name(digest), data) for digest, data in files.items()),
        ("index.json", dumps(index)),
    ]


def docker_entries(
    config: bytes, layers: Sequence[bytes], tags: Sequence[str] = ("example.org/a:v1",)
) -> list[tuple[str, bytes | tarfile.TarInfo]]:
    """Return the files that ``docker save`` wrote before version 25: manifest.json comes last."""
    name = digest_of(config)[7:] + ".json"
    files: list[tuple[str, bytes | tarfile.TarInfo]] = []
    names = []
    for number, layer in enumerate(layers):
        directory = f"{number:064x}"
        files += [(f"{directory}/VERSION", b"1.0"), (f"{directory}/json", b"{}")]
        files.append((f"{directory}/layer.tar", layer))
        names.append(f"{directory}/layer.tar")
    manifest: list[dict[str, Any]] = [{"Config": name, "RepoTags": list(tags), "Layers": names}]
    return [*files, (name, config), ("manifest.json", dumps(manifest)), ("repositories", b"{}")]


def index_layout(directory: Path, images: Mapping[str, OciImage], tag: str) -> str:
    """Write a layout of one index over images by architecture; returns the index's digest."""
    manifests = [
        {**descriptor(OCI_MANIFEST, image.manifest),
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, image in images.items()
    ]  # fmt: skip
    index = dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    top = {
        **descriptor(OCI_INDEX, index),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
             "index.json": dumps({"schemaVersion": 2, "manifests": [top]}),
             blob_name(digest_of(index)): index}  # fmt: skip
    for image in images.values():
        files[blob_name(image.digest)] = image.manifest
        files |= {blob_name(digest): data for digest, data in image.blobs.items()}
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return digest_of(index)
