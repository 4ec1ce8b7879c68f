"""What an image is to the rest of the runtime."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.images.config import ImageConfig


@dataclass(frozen=True)
class Image:
    """An image that is unpacked and ready.

    Attributes:
        id: the config's digest, ``sha256:...``.
        repo_tags: its names by tag, ``docker.io/library/busybox:latest``, sorted.
        repo_digests: its names by digest, ``docker.io/library/busybox@sha256:...``, sorted.
        size: bytes that its layers take on the disk, unpacked, plus those of its config; layers
            shared with other images count fully.
        config: what it gives to its containers.
        chain: chain ids of its layers, bottom first; they name snapshots.
        pinned: must not be removed by garbage collection of images.
    """

    id: str
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    size: int = 0
    config: ImageConfig = field(default_factory=ImageConfig)
    chain: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True)
class FilesystemUsage:
    """What the image store takes of its file system.

    Attributes:
        used_bytes: of blobs and unpacked layers.
        used_inodes: of the same.
        mountpoint: absolute path of the directory that holds them.
    """

    used_bytes: int
    used_inodes: int
    mountpoint: str
