"""What an export consists of: which blobs and documents, under which names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from runtime.images import reference as references
from runtime.images.archive.docker import OCI_CONFIG, manifest_bytes
from runtime.images.archive.documents import (
    Document,
    documents_of,
    layer_blobs,
    manifest_of,
    read_document,
)
from runtime.images.archive.layout import CONTAINERD_NAME, REF_NAME
from runtime.images.archive.writer import Part, expanded_size
from runtime.images.config import parse_config
from runtime.images.digests import digest_bytes
from runtime.images.errors import ImageNotFound
from runtime.images.image import Image
from runtime.images.manifest import (
    MAX_DOCUMENT,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)
from runtime.images.platforms import Platform
from runtime.images.service import ImageStore

Format = Literal["oci-archive", "docker-archive"]
_MAX_NESTING: Final = 3


@dataclass(frozen=True)
class Chosen:
    """An image to export, and the names that it gets in the archive."""

    image: Image
    wanted: str
    tags: tuple[str, ...]


@dataclass
class Plan:
    """The archive to be: its files in order, without the documents that name the others."""

    blobs: dict[str, Part] = field(default_factory=dict)
    index: list[dict[str, Any]] = field(default_factory=list)
    docker: list[dict[str, Any]] = field(default_factory=list)
    repositories: dict[str, dict[str, str]] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        """Return all files; what names the others comes first, so that readers can stream."""
        documents: dict[str, Any] = {
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
            "index.json": {
                "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.index,
            },
        }  # fmt: skip
        if self.docker:
            documents |= {"manifest.json": self.docker, "repositories": self.repositories}
        made = [_document_part(name, _dumps(value)) for name, value in documents.items()]
        return [*made, *self.blobs.values()]


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _document_part(name: str, data: bytes) -> Part:
    return Part(name, len(data), data=data)


def blob_name(digest: str) -> str:
    """Return where a blob is in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def choose_images(store: ImageStore, wanted: Sequence[str]) -> list[Chosen]:
    """Return the images that references or ids name; each once, with all names asked for.

    One by tag gets that tag, one by digest none, one by id all that it has.

    Raises:
        ImageNotFound: one is not here.
        StoreError: the database failed.
    """
    chosen: dict[str, Chosen] = {}
    for text in wanted:
        image = store.get(text)
        if image is None:
            raise ImageNotFound(f"image {text!r} is not here; pull it, or list what is here")
        tags = image.repo_tags
        if not store.is_id(text):
            tagged = references.parse(text).tagged
            tags = (tagged,) if tagged is not None else ()
        before = chosen[image.id].tags if image.id in chosen else ()
        first = chosen[image.id].wanted if image.id in chosen else text
        chosen[image.id] = Chosen(image, first, tuple(dict.fromkeys((*before, *tags))))
    return list(chosen.values())


class Planner:
    """Plans one export; blocking.

    Args:
        store: has the images.
        hold: told of each blob that the archive needs, before it is looked at.
        platform: the one to take, if not that which is unpacked.
        all_platforms: whole indexes, as far as they are here.
    """

    def __init__(
        self,
        store: ImageStore,
        hold: Callable[[str], None],
        platform: Platform | None,
        *,
        all_platforms: bool,
    ) -> None:
        self._store = store
        self._hold = hold
        self._platform = platform
        self._all = all_platforms
        self._plan = Plan()

    def plan(self, chosen: Sequence[Chosen], form: Format) -> Plan:
        """Return what the archive consists of.

        Raises:
            ImageError: a blob is not here, or damaged.
        """
        for each in chosen:
            for digest in self._store.metadata.blobs_of(each.image.id):
                self._hold(digest)
        tags = [tag for each in chosen for tag in each.tags]
        for each in chosen:
            documents = documents_of(self._store.metadata, self._store.content, each.image.id)
            if self._all and (top := _index_above(documents.indexes, each)) is not None:
                self._add_document(top)
                self._name(top, each.tags, tags)
                continue
            document = manifest_of(
                each.image, documents, self._store.content, each.wanted, self._platform
            )
            if form == "docker-archive":
                self._docker(document, each, tags)
            else:
                self._oci(document, each, tags)
        return self._plan

    # OCI.

    def _oci(self, document: Document, each: Chosen, tags: Sequence[str]) -> None:
        manifest = self._layers(document, each)
        if manifest != document.parsed:
            document = _made(manifest)
        self._add_document(document)
        self._name(document, each.tags, tags)

    def _layers(self, document: Document, each: Chosen) -> Manifest:
        return layer_blobs(document, each.image, self._store.metadata, self._store.content)

    def _add_document(self, document: Document, depth: int = 0) -> None:
        self._plan.blobs.setdefault(
            document.digest,
            Part(blob_name(document.digest), document.size, data=document.data),
        )
        parsed = document.parsed
        if isinstance(parsed, Manifest):
            for part in (parsed.config, *parsed.layers):
                self._add_blob(part)
            return
        here = documents_in(parsed, self._store)
        if depth < _MAX_NESTING:
            for inner in here:
                self._add_document(inner, depth + 1)

    def _add_blob(self, blob: Descriptor) -> None:
        self._hold(blob.digest)
        content = self._store.content
        if not content.has(blob.digest):
            raise ImageNotFound(f"blob {blob.digest} is not in the store; pull its image again")
        path = content.path(blob.digest)
        part = Part(blob_name(blob.digest), content.size(blob.digest), blob.digest, path)
        self._plan.blobs.setdefault(blob.digest, part)

    def _name(self, document: Document, own: Sequence[str], every: Sequence[str]) -> None:
        entry: dict[str, Any] = {
            "mediaType": document.media_type,
            "digest": document.digest,
            "size": document.size,
        }
        if isinstance(document.parsed, Manifest):
            entry |= self._platform_entry(document.parsed)
        self._plan.index += [
            {**entry, "annotations": index_annotations(tag, every)} for tag in own
        ] or [entry]

    def _platform_entry(self, manifest: Manifest) -> dict[str, Any]:
        data = self._store.content.read(manifest.config.digest, MAX_DOCUMENT, "config")
        platform = parse_config(data, manifest.config.digest).platform
        if not platform.architecture:
            return {}
        fields = {"architecture": platform.architecture, "os": platform.os or "linux"}
        if platform.variant:
            fields["variant"] = platform.variant
        return {"platform": fields}

    # Docker.

    def _docker(self, document: Document, each: Chosen, tags: Sequence[str]) -> None:
        manifest = self._layers(document, each)
        data = self._store.content.read(manifest.config.digest, MAX_DOCUMENT, each.wanted)
        config = parse_config(data, each.wanted)
        layers = [
            self._plain(layer, diff_id)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ]
        self._add_blob(manifest.config)
        plain = Manifest(
            Descriptor(OCI_CONFIG, manifest.config.digest, manifest.config.size), tuple(layers)
        )
        made = _made(plain)
        self._plan.blobs[made.digest] = Part(blob_name(made.digest), made.size, data=made.data)
        self._name(made, each.tags, tags)
        self._plan.docker.append(
            {
                "Config": blob_name(manifest.config.digest),
                "RepoTags": list(each.tags) or None,
                "Layers": [blob_name(layer.digest) for layer in layers],
            }
        )
        if layers:
            top = layers[-1].digest.partition(":")[2]
            for tag in each.tags:
                name, _, short = tag.rpartition(":")
                self._plan.repositories.setdefault(name, {})[short] = top

    def _plain(self, layer: Descriptor, diff_id: str) -> Descriptor:
        """Add a layer uncompressed; its digest then is its diff id."""
        known = self._plan.blobs.get(diff_id)
        if known is None:
            path = self._store.content.path(layer.digest)
            packed = layer.compression != "none"
            limit = self._store.config.limits.max_bytes
            size = expanded_size(path, limit) if packed else layer.size
            known = Part(blob_name(diff_id), size, diff_id, path, expand=packed)
            self._plan.blobs[diff_id] = known
        return Descriptor(OCI_LAYER, diff_id, known.size)


def index_annotations(name: str, every: Sequence[str]) -> Mapping[str, str]:
    """Return how a layout's index names an image: as containerd and Docker write it.

    The specification's ref.name is the tag alone, unless two images of the archive share it.
    """
    tag = name.rpartition(":")[2]
    ambiguous = sum(other.rpartition(":")[2] == tag for other in every) > 1
    return {CONTAINERD_NAME: name, REF_NAME: name if ambiguous else tag}


def _made(manifest: Manifest) -> Document:
    data = manifest_bytes(manifest)
    return Document(digest_bytes(data), len(data), OCI_MANIFEST, data, manifest)


def _index_above(indexes: Sequence[Document], each: Chosen) -> Document | None:
    """Return the index by which an image came: the one that was asked for, else the first."""
    if not indexes:
        return None
    digest = references.parse(each.wanted).digest if "@" in each.wanted else None
    named = {name.partition("@")[2] for name in each.image.repo_digests}
    order = sorted(indexes, key=lambda x: (x.digest != digest, x.digest not in named, x.digest))
    return order[0]


def documents_in(index: Index, store: ImageStore) -> list[Document]:
    """Return the manifests of an index that are here, and whole."""
    found = []
    for _, entry in index.manifests:
        document = read_document(store.content, entry.digest)
        if document is None:
            continue
        if isinstance(document.parsed, Manifest):
            parts = (document.parsed.config, *document.parsed.layers)
            if not all(store.content.has(part.digest) for part in parts):
                continue
        found.append(document)
    return found
