"""Which manifest and index of the content store make up an image that is recorded here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from runtime.images import reference as references
from runtime.images.config import parse_config
from runtime.images.content import ContentStore
from runtime.images.digests import chain_ids
from runtime.images.errors import ImageError, ImageNotFound, NoMatchingPlatform
from runtime.images.image import Image
from runtime.images.manifest import (
    MAX_DOCUMENT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    load_json,
    parse,
)
from runtime.images.metadata import Metadata
from runtime.images.platforms import Platform, runs_here

_BRACE: Final = b"{"


@dataclass(frozen=True)
class Document:
    """A manifest or index in the content store."""

    digest: str
    size: int
    media_type: str
    data: bytes
    parsed: Manifest | Index


@dataclass(frozen=True)
class Documents:
    """All that an image holds on to, told apart."""

    manifests: tuple[Document, ...]
    indexes: tuple[Document, ...]


def documents_of(metadata: Metadata, content: ContentStore, identifier: str) -> Documents:
    """Find the manifests and indexes among the blobs of an image; blocking.

    Raises:
        StoreError: the disk or the database failed.
    """
    manifests: list[Document] = []
    indexes: list[Document] = []
    for digest in metadata.blobs_of(identifier):
        document = read_document(content, digest)
        if document is not None:
            (indexes if isinstance(document.parsed, Index) else manifests).append(document)
    return Documents(tuple(manifests), tuple(indexes))


def read_document(content: ContentStore, digest: str) -> Document | None:
    """Return a blob that is a manifest or an index; None if it is neither, or not here."""
    size = content.size(digest)
    if not 0 < size <= MAX_DOCUMENT:
        return None
    try:
        if not content.head(digest).lstrip().startswith(_BRACE):
            return None
        data = content.read(digest, MAX_DOCUMENT, f"manifest {digest}")
        parsed = parse(data, "", digest)
    except ImageError:
        # The config, or something else that is JSON but no manifest; or damaged.
        return None
    return Document(digest, size, _media_type(data, parsed), data, parsed)


def _media_type(data: bytes, parsed: Manifest | Index) -> str:
    inside = load_json(data, "manifest").get("mediaType")
    if isinstance(inside, str) and inside:
        return inside
    return OCI_INDEX if isinstance(parsed, Index) else OCI_MANIFEST


def manifest_of(
    image: Image, found: Documents, content: ContentStore, wanted: str, platform: Platform | None
) -> Document:
    """Return the manifest to export.

    Args:
        image: which one.
        found: its documents.
        content: tells which blobs are here.
        wanted: the reference that was given; one by digest names its manifest.
        platform: another one than that which is unpacked.

    Raises:
        NoMatchingPlatform: the image is not here for this platform.
        ImageNotFound: no manifest is here.
    """
    choice = list(found.manifests)
    if platform is not None:
        choice = [each for each in choice if _runs_on(each, content, platform)]
        if not choice:
            raise NoMatchingPlatform(
                f"{wanted} is not here for {platform}; pull it on such a machine, or import it "
                "with --all-platforms"
            )
    else:
        choice = [each for each in choice if _config(each).digest == image.id]
    if not choice:
        raise ImageNotFound(f"{wanted}: its manifest is not in the store; pull it again")
    digest = references.parse(wanted).digest if "@" in wanted else None
    # The one that was asked for, else one that is whole.
    choice.sort(
        key=lambda each: (
            each.digest != digest,
            _config(each).digest != image.id,
            len(missing(each, content)),
            each.digest,
        )
    )
    return choice[0]


def _config(document: Document) -> Descriptor:
    assert isinstance(document.parsed, Manifest)
    return document.parsed.config


def missing(document: Document, content: ContentStore) -> list[Descriptor]:
    """Return the layers of a manifest that are not here."""
    assert isinstance(document.parsed, Manifest)
    return [layer for layer in document.parsed.layers if not content.has(layer.digest)]


def _runs_on(document: Document, content: ContentStore, wanted: Platform) -> bool:
    config = _config(document)
    if not content.has(config.digest):
        return False
    data = content.read(config.digest, MAX_DOCUMENT, "config")
    platform = parse_config(data, config.digest).platform
    return not platform.architecture or runs_here(platform, wanted)


def layer_blobs(
    document: Document, image: Image, metadata: Metadata, content: ContentStore
) -> Manifest:
    """Return the manifest with blobs that are here in place of those that are not.

    A layer that was here already when an image was pulled was not fetched again; it may be packed
    otherwise than in the image whose blob is here.

    Raises:
        ImageNotFound: a layer's bytes are nowhere.
    """
    assert isinstance(document.parsed, Manifest)
    manifest = document.parsed
    if not missing(document, content):
        return manifest
    own = manifest.config.digest == image.id
    substitutes = substitutes_of(image, metadata, content) if own else {}
    layers = []
    for number, layer in enumerate(manifest.layers):
        other = substitutes.get(number)
        if content.has(layer.digest):
            layers.append(layer)
        elif other is not None:
            layers.append(other.layer)
        else:
            raise ImageNotFound(
                f"layer {layer.digest} of image {image.id} is here unpacked only: remove the "
                "image and pull it again"
            )
    return replace(manifest, layers=tuple(layers))


@dataclass(frozen=True)
class Substitute:
    """A blob that unpacks to a layer, and the manifest and config by which that is known."""

    layer: Descriptor
    manifest: str
    config: str


def substitutes_of(
    image: Image, metadata: Metadata, content: ContentStore
) -> dict[int, Substitute]:
    """Return blobs that unpack to the layers of this image, by the layer's number; blocking.

    They are those of other images, or those that this image holds on to in place of its own.

    Raises:
        StoreError: the disk or the database failed.
    """
    chain = {chain_id: number for number, chain_id in enumerate(image.chain)}
    found: dict[int, Substitute] = {}
    for identifier in {*metadata.image_ids(), image.id}:
        for document in documents_of(metadata, content, identifier).manifests:
            assert isinstance(document.parsed, Manifest)
            config = document.parsed.config.digest
            for chain_id, layer in zip(
                _chain_of(config, content), document.parsed.layers, strict=False
            ):
                if chain_id in chain and content.has(layer.digest):
                    found.setdefault(chain[chain_id], Substitute(layer, document.digest, config))
    return found


def _chain_of(config: str, content: ContentStore) -> tuple[str, ...]:
    if not content.has(config):
        return ()
    try:
        data = content.read(config, MAX_DOCUMENT, "config")
        return chain_ids(parse_config(data, config).diff_ids)
    except ImageError:
        return ()
