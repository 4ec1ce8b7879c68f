"""Finds the images of what ``docker save`` wrote, in its form of before and since Docker 25.

``manifest.json`` names for each image its config, its names and its layers, by names of files. The
older file ``repositories`` alone does not say what an image consists of.
Source: github.com/moby/moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset
Format", and image/tarexport.
"""

from __future__ import annotations

import json
import posixpath
from typing import Any, Final

from runtime.images import reference as references
from runtime.images.archive.contents import (
    DOCKER_MANIFEST,
    REPOSITORIES,
    Blob,
    Blobs,
    Contents,
    FoundImage,
    Wanted,
    read_config,
)
from runtime.images.digests import digest_bytes
from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    InvalidReference,
    MalformedImage,
    NoMatchingPlatform,
    UnsupportedMedia,
)
from runtime.images.manifest import (
    MAX_DOCUMENT,
    MAX_LAYERS,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    load_json,
)
from runtime.images.pull import Resolved

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MAX_TAGS: Final = 1000
_SUFFIX: Final = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}


def find(
    contents: Contents, blobs: Blobs, wanted: Wanted
) -> tuple[list[FoundImage], list[tuple[str, ImageError]]]:
    """Return the images that ``manifest.json`` names, and what was left out and why.

    Raises:
        ImageError: a file is missing, damaged, or exceeds a bound.
    """
    data = contents.documents.get(DOCKER_MANIFEST)
    if data is None:
        if REPOSITORIES in contents.documents:
            raise UnsupportedMedia(
                "the archive was saved by a Docker of before 1.10: load it there and save it with "
                "a newer one"
            )
        raise MalformedImage(
            "the archive has neither index.json nor manifest.json: it is no image archive"
        )
    found: list[FoundImage] = []
    skipped: list[tuple[str, ImageError]] = []
    for entry in entries(data):
        try:
            found.append(_image(entry, contents, blobs, wanted))
        except NoMatchingPlatform as error:
            skipped.append((str(entry.get("Config"))[:200], error))
    return found, skipped


def entries(data: bytes) -> list[dict[str, Any]]:
    """Return the entries of ``manifest.json``.

    Raises:
        MalformedImage: it is not a list of objects.
    """
    # It is a list, where every other document is an object.
    document = load_json(b'{"manifest":' + data + b"}", DOCKER_MANIFEST)["manifest"]
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise MalformedImage(f"{DOCKER_MANIFEST} is not a list of objects")
    return document


def _texts(entry: dict[str, Any], key: str, limit: int) -> list[str]:
    value = entry.get(key) or []
    if not isinstance(value, list) or len(value) > limit:
        raise MalformedImage(f"{DOCKER_MANIFEST}: {key} is not a list of at most {limit}")
    if not all(isinstance(each, str) for each in value):
        raise MalformedImage(f"{DOCKER_MANIFEST}: {key} holds what is not a string")
    return value


def _image(entry: dict[str, Any], contents: Contents, blobs: Blobs, wanted: Wanted) -> FoundImage:
    name = entry.get("Config")
    if not isinstance(name, str) or not name:
        raise MalformedImage(f"{DOCKER_MANIFEST}: an image has no Config")
    config_blob = contents.blob(posixpath.normpath(name), "config")
    config_bytes = blobs.read(config_blob.digest, MAX_DOCUMENT, f"config {name!a}")
    layers = [
        contents.blob(posixpath.normpath(layer), "layer")
        for layer in _texts(entry, "Layers", MAX_LAYERS)
    ]
    manifest, document = _manifest(config_blob, layers)
    tags = _tags(entry)
    if not tags and (given := wanted.named("")) is not None:
        tags = (given,)
    what = tags[0] if tags else config_blob.digest
    config = read_config(config_bytes, manifest, wanted, what)
    for layer, diff_id in zip(layers, config.diff_ids, strict=True):
        plain = layer.compression == "none" and diff_id.startswith("sha256:")
        if plain and layer.digest != diff_id:
            raise DigestMismatch(
                f"{what}: a layer has the digest {layer.digest}, its config says {diff_id}"
            )
    digest = digest_bytes(document)
    documents = (digest, config_blob.digest)
    resolved = Resolved(digest, config_bytes, config, manifest, documents)
    # No name by digest: the manifest was made here, no registry has it.
    return FoundImage(resolved, tags, made=((digest, document),))


def _manifest(config: Blob, layers: list[Blob]) -> tuple[Manifest, bytes]:
    """Make the OCI manifest that the archive does not have."""
    manifest = Manifest(
        Descriptor(OCI_CONFIG, config.digest, config.size),
        tuple(
            Descriptor(OCI_LAYER + _SUFFIX[layer.compression], layer.digest, layer.size)
            for layer in layers
        ),
    )
    return manifest, manifest_bytes(manifest)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the OCI manifest as a document."""
    parts = [
        {"mediaType": part.media_type, "digest": part.digest, "size": part.size}
        for part in (manifest.config, *manifest.layers)
    ]
    document = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:],
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":")).encode()


def _tags(entry: dict[str, Any]) -> tuple[str, ...]:
    tags = []
    for text in _texts(entry, "RepoTags", _MAX_TAGS):
        try:
            tagged = references.parse(text).tagged
        except InvalidReference:
            # Such as the "<none>:<none>" of old versions.
            continue
        if tagged is not None:
            tags.append(tagged)
    return tuple(dict.fromkeys(tags))


def tags_by_config(contents: Contents) -> dict[str, tuple[str, ...]]:
    """Return the names that ``manifest.json`` gives beside an OCI index, by the config's digest."""
    data = contents.documents.get(DOCKER_MANIFEST)
    if data is None:
        return {}
    found = {}
    for entry in entries(data):
        name = entry.get("Config")
        if isinstance(name, str) and name:
            blob = contents.files.get(posixpath.normpath(name))
            if blob is not None:
                found[blob.digest] = _tags(entry)
    return found
