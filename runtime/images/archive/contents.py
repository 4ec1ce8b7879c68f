"""What an archive held, once all of it has arrived; and the images that are found in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from runtime.images import reference as references
from runtime.images.archive.reader import resolve_link
from runtime.images.config import ImageConfig, parse_config
from runtime.images.errors import InvalidReference, MalformedImage, NoMatchingPlatform
from runtime.images.manifest import Manifest
from runtime.images.platforms import Platform, runs_here
from runtime.images.pull import Resolved

INDEX: Final = "index.json"
LAYOUT: Final = "oci-layout"
DOCKER_MANIFEST: Final = "manifest.json"
REPOSITORIES: Final = "repositories"
DOCUMENTS: Final = frozenset({INDEX, LAYOUT, DOCKER_MANIFEST, REPOSITORIES})
"""Files that say what the others are."""


@dataclass(frozen=True)
class Blob:
    """A file of the archive, which is in the content store now."""

    digest: str
    size: int
    compression: str = "none"


@dataclass
class Contents:
    """All files of an archive by their names; links name other files."""

    files: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)

    def blob(self, name: str, what: str) -> Blob:
        """Return a file by name.

        Raises:
            MalformedImage: there is none.
        """
        found = self.files.get(resolve_link(self.links, name))
        if found is None:
            raise MalformedImage(f"{what} {name!a} is not in the archive")
        return found


class Blobs(Protocol):
    """The blobs that images may be made of: those of the archive, and those that were here."""

    def has(self, digest: str) -> bool:
        """Tell whether a blob is here."""
        ...

    def read(self, digest: str, limit: int, what: str) -> bytes:
        """Return a small blob, verified."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What to take of an archive, and how to call what has no full name there.

    Attributes:
        host: the machine's platform.
        platform: the one to take, if another one.
        all_platforms: hold on to the blobs of all that are in the archive.
        name: repository for images without a full name; empty: they stay without.
        tag: for them; empty: the archive's, or ``latest``.
    """

    host: Platform
    platform: Platform | None = None
    all_platforms: bool = False
    name: str = ""
    tag: str = ""

    @property
    def target(self) -> Platform:
        """The platform to take."""
        return self.platform or self.host

    def named(self, tag: str) -> str | None:
        """Return the normalised name of an image that has at most a tag; None if it gets none.

        Raises:
            InvalidReference: name and tag together are no reference.
        """
        if not self.name:
            return None
        tag = self.tag or tag
        parsed = references.parse(f"{self.name}:{tag}" if tag else self.name)
        return parsed.tagged


@dataclass(frozen=True)
class FoundImage:
    """An image of an archive.

    Attributes:
        resolved: what it consists of.
        tags: its normalised names.
        digests: its normalised names by the digest of what the archive's index names.
        made: documents that were not in the archive and are to be stored, by digest.
    """

    resolved: Resolved
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    made: tuple[tuple[str, bytes], ...] = ()

    @property
    def label(self) -> str:
        """How to call it in logs and errors."""
        return self.tags[0] if self.tags else self.resolved.manifest.config.digest


def read_config(data: bytes, manifest: Manifest, wanted: Wanted, what: str) -> ImageConfig:
    """Parse an image's config, and check that it fits to its manifest and to what is wanted.

    Raises:
        MalformedImage: it does not fit to the manifest.
        NoMatchingPlatform: it is for another platform than the wanted one.
    """
    config = parse_config(data, what)
    if len(config.diff_ids) != len(manifest.layers):
        raise MalformedImage(
            f"{what}: the config has {len(config.diff_ids)} diff_ids, the manifest "
            f"{len(manifest.layers)} layers"
        )
    if config.platform.architecture and not runs_here(config.platform, wanted.target):
        raise NoMatchingPlatform(
            f"{what} is made for {config.platform}, not for {wanted.target}; name its platform "
            "to import it all the same"
        )
    return config


def full_name(text: str) -> str | None:
    """Return the normalised ``name:tag`` if ``text`` is a whole reference, not only a tag.

    Tools differ in what they write as ``org.opencontainers.image.ref.name``: the specification
    leaves it open, skopeo and umoci write a tag, podman a reference.
    """
    if "/" not in text and ":" not in text:
        return None
    try:
        return references.parse(text).tagged
    except InvalidReference:
        return None
