"""Finds the images of an OCI image layout (image specification, image-layout.md, annotations.md).

The layout's index names manifests, or indexes of them, with annotations for their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.images import reference as references
from runtime.images.archive.contents import Blobs, FoundImage, Wanted, full_name, read_config
from runtime.images.errors import (
    ImageError,
    MalformedImage,
    NoMatchingPlatform,
    UnsupportedMedia,
)
from runtime.images.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT,
    Descriptor,
    Index,
    Manifest,
    choose,
    load_json,
    parse,
    parse_descriptor,
)
from runtime.images.platforms import Platform, select
from runtime.images.pull import Resolved

CONTAINERD_NAME: Final = "io.containerd.image.name"
REF_NAME: Final = "org.opencontainers.image.ref.name"
_MAX_NESTING: Final = 3
_MAX_DOCUMENTS: Final = 10_000


@dataclass(frozen=True)
class _Entry:
    """An entry of the layout's index, with the name it has there; empty: none."""

    descriptor: Descriptor
    platform: Platform | None
    name: str
    tag: str


def check_layout(data: bytes) -> None:
    """Check the file ``oci-layout``.

    Raises:
        MalformedImage: it is none.
        UnsupportedMedia: it is of another version.
    """
    version = load_json(data, "oci-layout").get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise UnsupportedMedia(
            f"the layout is of version {str(version)[:20]!r}; supported is version 1"
        )


def find(
    index: bytes, blobs: Blobs, wanted: Wanted
) -> tuple[list[FoundImage], list[tuple[str, ImageError]]]:
    """Return the images that the layout's ``index.json`` names, and what was left out and why.

    Raises:
        ImageError: a document is missing, damaged, or exceeds a bound.
    """
    found: list[FoundImage] = []
    skipped: list[tuple[str, ImageError]] = []
    for entry in _chosen(_entries(index), wanted.target):
        try:
            found.append(_image(entry, blobs, wanted))
        except (NoMatchingPlatform, UnsupportedMedia) as error:
            skipped.append((entry.name or entry.tag or entry.descriptor.digest, error))
    return found, skipped


def _entries(data: bytes) -> list[_Entry]:
    document = load_json(data, "index.json")
    listed = document.get("manifests")
    if not isinstance(listed, list):
        raise MalformedImage("index.json has no list of manifests")
    return [_entry(value) for value in listed]


def _entry(value: Any) -> _Entry:
    descriptor = parse_descriptor(value, "index.json.manifests[]")
    given = value.get("annotations") or {}
    if not isinstance(given, dict):
        raise MalformedImage("index.json.manifests[].annotations is not an object")
    texts = {key: text for key, text in given.items() if isinstance(text, str)}
    ref = texts.get(REF_NAME, "")
    name = full_name(texts.get(CONTAINERD_NAME, "")) or full_name(ref)
    tag = "" if name is not None or "/" in ref or ":" in ref else ref
    return _Entry(descriptor, _platform(value.get("platform")), name or "", tag)


def _platform(value: Any) -> Platform | None:
    if not isinstance(value, Mapping):
        return None
    fields = [value.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(field, str) and len(field) < 100 for field in fields):
        raise MalformedImage("index.json.manifests[].platform holds what is not a short string")
    return Platform(*fields)


def _chosen(entries: list[_Entry], target: Platform) -> Iterator[_Entry]:
    """Yield one entry for each name: some tools list the platforms of an image side by side."""
    groups: dict[tuple[str, str], list[_Entry]] = {}
    for number, entry in enumerate(entries):
        key = (entry.name, entry.tag) if entry.name or entry.tag else ("", f"\0{number}")
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        best = select([entry.platform for entry in group], target) if len(group) > 1 else None
        yield group[best or 0]


def _image(entry: _Entry, blobs: Blobs, wanted: Wanted) -> FoundImage:
    top = entry.descriptor
    what = entry.name or entry.tag or top.digest
    if top.media_type and top.media_type not in INDEX_TYPES | MANIFEST_TYPES:
        raise UnsupportedMedia(f"{what} is of the media type {top.media_type[:200]!r}")
    descriptor, parsed = top, _document(top, blobs, what)
    documents = [top.digest]
    for _ in range(_MAX_NESTING):
        if isinstance(parsed, Manifest):
            break
        descriptor = choose(parsed, wanted.target, what)
        documents.append(descriptor.digest)
        parsed = _document(descriptor, blobs, what)
    if isinstance(parsed, Index):
        raise MalformedImage(f"{what}: more than {_MAX_NESTING} indexes in each other")
    data = _small(parsed.config, blobs, f"config of {what}")
    config = read_config(data, parsed, wanted, what)
    documents.append(parsed.config.digest)
    if wanted.all_platforms and len(documents) > 2:
        documents += _all_of(top, blobs, what)
    resolved = Resolved(top.digest, data, config, parsed, tuple(dict.fromkeys(documents)))
    tags, digests = _names(entry, wanted)
    return FoundImage(resolved, tags, digests)


def _names(entry: _Entry, wanted: Wanted) -> tuple[tuple[str, ...], tuple[str, ...]]:
    name = entry.name or wanted.named(entry.tag)
    if name is None:
        return (), ()
    return (name,), (references.parse(name).with_digest(entry.descriptor.digest),)


def _small(descriptor: Descriptor, blobs: Blobs, what: str) -> bytes:
    if not blobs.has(descriptor.digest):
        raise MalformedImage(f"{what} ({descriptor.digest}) is not in the archive")
    data = blobs.read(descriptor.digest, MAX_DOCUMENT, what)
    if len(data) != descriptor.size:
        raise MalformedImage(f"{what} has {len(data)} bytes, its descriptor says {descriptor.size}")
    return data


def _document(descriptor: Descriptor, blobs: Blobs, what: str) -> Manifest | Index:
    data = _small(descriptor, blobs, f"manifest of {what}")
    return parse(data, descriptor.media_type, f"manifest of {what}")


def _all_of(top: Descriptor, blobs: Blobs, what: str) -> list[str]:
    """Return the digests of all that an index leads to, as far as it is in the archive."""
    found: list[str] = []
    todo = [(top, 0)]
    while todo:
        descriptor, depth = todo.pop()
        if not blobs.has(descriptor.digest):
            continue
        if len(found) > _MAX_DOCUMENTS or depth > _MAX_NESTING:
            raise MalformedImage(f"{what}: its index leads to too many documents")
        found.append(descriptor.digest)
        try:
            parsed = _document(descriptor, blobs, what)
        except UnsupportedMedia:
            # An attestation or another artifact beside the images.
            continue
        if isinstance(parsed, Index):
            todo += [(entry, depth + 1) for _, entry in parsed.manifests]
        else:
            parts = (parsed.config, *parsed.layers)
            found += [part.digest for part in parts if blobs.has(part.digest)]
    return found
