"""Manifests and indexes: parsed defensively from bytes that a registry sent.

OCI image specification (manifest.md, image-index.md, descriptor.md) and Docker's image manifest
version 2 schema 2. Whatever is not used is ignored; whatever is used has its type and bounds
checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from runtime.images.digests import algorithm_of
from runtime.images.errors import MalformedImage, NoMatchingPlatform, UnsupportedMedia
from runtime.images.platforms import Platform, select

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
LAYER_TYPES: Final[dict[str, str]] = {
    OCI_LAYER: "none",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    _OCI_FOREIGN: "none",
    f"{_OCI_FOREIGN}+gzip": "gzip",
    f"{_OCI_FOREIGN}+zstd": "zstd",
    _DOCKER_LAYER: "none",
    f"{_DOCKER_LAYER}.gzip": "gzip",
    f"{_DOCKER_LAYER}.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
"""Media type of a layer -> how it is compressed."""

MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""Bytes of a manifest, index or config; the limit of the distribution specification."""

MAX_VALUES: Final = 100_000
"""Values of one such document: as objects of Python they take up to a hundred times their bytes."""

MAX_LAYERS: Final = 500
"""The kernel's OVL_MAX_STACK: more lower directories cannot be mounted."""

MAX_SIZE: Final = 1 << 50
_MAX_URLS: Final = 16


@dataclass(frozen=True)
class Descriptor:
    """Names a blob: what it is, its digest, its exact size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()

    @property
    def compression(self) -> str:
        """``gzip``, ``zstd`` or ``none``; only for layers."""
        return LAYER_TYPES[self.media_type]


@dataclass(frozen=True)
class Manifest:
    """A single image: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Index:
    """A choice of manifests, one per platform; None where the entry names no platform."""

    manifests: tuple[tuple[Platform | None, Descriptor], ...]


def load_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: at most :data:`MAX_DOCUMENT` bytes.
        what: named in the error.

    Raises:
        MalformedImage: too large, too many values, not JSON, nested too deeply, or not an object.
    """
    if len(data) > MAX_DOCUMENT:
        raise MalformedImage(f"{what} has {len(data)} bytes, the limit is {MAX_DOCUMENT}")
    # Every value but the first is behind one of these; those inside of strings count, too.
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise MalformedImage(f"{what} has more than {MAX_VALUES} values")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedImage(f"{what} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedImage(f"{what} is not a JSON object")
    return document


def _string(value: Any, what: str, default: str | None = None) -> str:
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or len(value) > 4096:
        raise MalformedImage(f"{what} is not a string of at most 4096 characters")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedImage(f"{what} is not a list")
    return value


def parse_descriptor(value: Any, what: str) -> Descriptor:
    """Check one descriptor.

    Raises:
        MalformedImage: a field is missing, of a wrong type, or out of bounds.
    """
    if not isinstance(value, dict):
        raise MalformedImage(f"{what} is not a descriptor")
    digest = _string(value.get("digest"), f"{what}.digest")
    algorithm_of(digest)
    size = value.get("size")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise MalformedImage(f"{what}.size {str(size)[:40]!r} is not a size in bytes")
    urls = _list(value.get("urls") or [], f"{what}.urls")
    if len(urls) > _MAX_URLS:
        raise MalformedImage(f"{what}.urls has {len(urls)} entries, the limit is {_MAX_URLS}")
    return Descriptor(
        media_type=_string(value.get("mediaType"), f"{what}.mediaType", ""),
        digest=digest,
        size=size,
        urls=tuple(_string(url, f"{what}.urls") for url in urls),
    )


def _media_type(document: dict[str, Any], header: str, what: str) -> str:
    """Settle what the document is; header, ``mediaType`` and fields must not contradict.

    A document that is both index and manifest would be read differently by different clients
    (CVE-2021-41190).
    """
    inside = _string(document.get("mediaType"), f"{what}.mediaType", "")
    known = INDEX_TYPES | MANIFEST_TYPES
    header = header.partition(";")[0].strip().lower()
    if inside and header in known and inside != header:
        raise MalformedImage(f"{what} says it is {inside!r}, the registry says {header!r}")
    found = inside or header
    has_manifests, has_layers = "manifests" in document, "layers" in document
    if has_manifests and (has_layers or "config" in document):
        raise MalformedImage(f"{what} is an index and a manifest at the same time")
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise UnsupportedMedia(f"{what} is of Docker's schema 1; push it again with a newer tool")
    if found not in known and not inside:
        # The registry sent no useful Content-Type, and OCI makes mediaType optional.
        found = OCI_INDEX if has_manifests else OCI_MANIFEST if has_layers else found
    if found not in known:
        raise UnsupportedMedia(f"{what} is of the media type {found[:200]!r}, not an image")
    return found


def parse(data: bytes, content_type: str, what: str) -> Manifest | Index:
    """Parse a manifest or an index.

    Args:
        data: its bytes, already checked against its digest.
        content_type: what the registry or the descriptor said; may be empty.
        what: named in errors, such as the image reference.

    Raises:
        MalformedImage: it is broken, contradicts itself, or exceeds a bound.
        UnsupportedMedia: it is neither a manifest nor an index of a supported type.
    """
    document = load_json(data, what)
    if _media_type(document, content_type, what) in INDEX_TYPES:
        entries = _list(document.get("manifests"), f"{what}.manifests")
        return Index(tuple(_index_entry(entry, what) for entry in entries))
    config = parse_descriptor(document.get("config"), f"{what}.config")
    if config.media_type not in CONFIG_TYPES:
        raise UnsupportedMedia(
            f"{what}.config is of the media type {config.media_type[:200]!r}: an artifact, "
            "not a container image"
        )
    if config.size > MAX_DOCUMENT:
        raise MalformedImage(f"{what}.config has {config.size} bytes, limit {MAX_DOCUMENT}")
    layers = _list(document.get("layers"), f"{what}.layers")
    if len(layers) > MAX_LAYERS:
        raise MalformedImage(f"{what} has {len(layers)} layers, the limit is {MAX_LAYERS}")
    return Manifest(config, tuple(_layer(entry, n, what) for n, entry in enumerate(layers)))


def _layer(value: Any, number: int, what: str) -> Descriptor:
    layer = parse_descriptor(value, f"{what}.layers[{number}]")
    if layer.media_type not in LAYER_TYPES:
        raise UnsupportedMedia(
            f"{what}.layers[{number}] is of the media type {layer.media_type[:200]!r}; supported "
            "are tar layers, plain or compressed by gzip or zstd"
        )
    return layer


def _index_entry(value: Any, what: str) -> tuple[Platform | None, Descriptor]:
    entry = parse_descriptor(value, f"{what}.manifests[]")
    found = value.get("platform")
    if found is None:
        return None, entry
    if not isinstance(found, dict):
        raise MalformedImage(f"{what}.manifests[].platform is not an object")
    fields = [
        _string(found.get(key), f"{what}.manifests[].platform.{key}", "")
        for key in ("os", "architecture", "variant")
    ]
    return Platform(*fields), entry


def choose(index: Index, host: Platform, what: str) -> Descriptor:
    """Return the manifest of ``index`` for ``host``.

    Raises:
        NoMatchingPlatform: there is none.
    """
    usable = [
        (platform, entry)
        for platform, entry in index.manifests
        if entry.media_type in INDEX_TYPES | MANIFEST_TYPES
    ]
    chosen = select([platform for platform, _ in usable], host)
    if chosen is None:
        offered = ", ".join(str(platform) for platform, _ in usable[:20] if platform) or "none"
        raise NoMatchingPlatform(f"{what} is not made for {host}; it offers: {offered}")
    return usable[chosen][1]
