"""Which images and layers nobody needs (pure), and what removing them frees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from runtime.images.image import Image
from runtime.images.service import ImageStore


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        images: as they were.
        bytes: freed on the disk, with blobs and layers that no image needed before.
    """

    images: tuple[Image, ...]
    bytes: int


def unneeded(images: Iterable[Image], used: AbstractSet[str], *, everything: bool) -> list[Image]:
    """Return the images to remove (pure).

    Args:
        images: all there are.
        used: ids of images that containers were made of.
        everything: also those with a tag.
    """
    return [
        image
        for image in images
        if not image.pinned and image.id not in used and (everything or not image.repo_tags)
    ]


def unreferenced(sizes: Mapping[str, int], kept: Iterable[AbstractSet[str]]) -> int:
    """Return the bytes of what is in none of the sets (pure)."""
    needed: set[str] = set()
    for each in kept:
        needed |= each
    return sum(size for key, size in sizes.items() if key not in needed)


async def prune(
    store: ImageStore, used: AbstractSet[str], *, everything: bool, dry_run: bool
) -> Pruned:
    """Remove images that no container uses, then all blobs and layers that nobody needs.

    Args:
        store: has the images.
        used: ids of images that containers were made of; looked at just before.
        everything: also images with a tag.
        dry_run: remove nothing, only tell.

    Raises:
        StoreError: the disk or the database failed.
    """
    images = store.list()
    found = unneeded(images, used, everything=everything)
    if dry_run:
        gone = {image.id for image in found}
        return Pruned(tuple(found), _would_free(store, [i for i in images if i.id not in gone]))
    freed = await store.remove_all([image.id for image in found])
    return Pruned(tuple(found), freed)


def _would_free(store: ImageStore, kept: Sequence[Image]) -> int:
    held = store.held()
    blobs = [set(store.metadata.blobs_of(image.id)) for image in kept]
    layers = [set(image.chain) for image in kept]
    content = store.content
    freed = unreferenced({d: content.size(d) for d in content.digests()}, [*blobs, held])
    below = {number for row in store.metadata.snapshots("container") for number in row.lower}
    sizes = {row.key: row.bytes for row in store.snapshots.layers() if row.number not in below}
    return freed + unreferenced(sizes, [*layers, held])
