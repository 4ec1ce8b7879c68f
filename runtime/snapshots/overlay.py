"""Snapshots on overlayfs: a directory per layer and per container, named by a short number.

    <base>/<n>/fs     a layer's files, or a container's writable directory
    <base>/<n>/work   overlayfs' scratch directory; containers only
    <base>/<n>/lower  an empty directory; for containers of images without layers, and below the
                      layers of an image volume: overlayfs wants two lower directories

The row of a container is named by its id, that of an image volume of it by ``<id>:<name>``.

Numbers are short on purpose: all lower directories have to fit into one page of mount options. A
directory without a row in the database, or whose row is not ready, is a leftover and removed at
open.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy_common.logs import event
from runtime.images.disk import disk_errors
from runtime.images.errors import ImageNotFound, StoreError
from runtime.images.image import Image
from runtime.images.metadata import Metadata, Snapshot
from runtime.shim.messages import Rootfs
from runtime.snapshots.lookup import MergedTree, read_file
from runtime.snapshots.trees import remove_entry, usage

log = logging.getLogger(__name__)

MAX_OPTIONS: Final = 4096 - 256
"""Bytes for the lower directories in the mount options' page, with room for upper and work."""

_UNPACKER_SECONDS: Final = 20.0


@dataclass(frozen=True)
class VolumeLayers:
    """What an image volume is made of.

    Attributes:
        base: absolute path of the directory that holds the layers.
        layers: directories relative to ``base``, the topmost first; the last one is empty.
    """

    base: str
    layers: tuple[str, ...]


class Snapshots:
    """All snapshots of a runtime; methods are blocking and may be called from any thread."""

    def __init__(self, base: Path, metadata: Metadata) -> None:
        """Use the directory ``base`` and the database ``metadata``; :meth:`open` comes next."""
        self.base = base
        self._metadata = metadata

    def open(self) -> None:
        """Make the directory and remove what an earlier run left half-done.

        Raises:
            StoreError: the disk or the database failed.
        """
        with disk_errors(f"opening the snapshots {self.base}", self.base):
            self.base.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(self.base, 0o700)
            self._wait_for_unpackers()
            rows = self._metadata.snapshots()
            present = {entry.name for entry in os.scandir(self.base)}
            for row in rows:
                # A layer whose directory vanished must be fetched again, not mounted as empty.
                if not row.ready or str(row.number) not in present:
                    self._metadata.forget_snapshot(row.number)
            kept = {str(row.number) for row in self._metadata.snapshots()}
            for name in sorted(present - kept):
                event(log, logging.INFO, "leftover snapshot removed", directory=name)
                self._remove_directory(name)

    def _wait_for_unpackers(self) -> None:
        """Wait until nothing of an earlier daemon writes here: its unpacker holds a lock."""
        directory = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + _UNPACKER_SECONDS
            while True:
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"{self.base}: an unpacker of an earlier runtime has not ended within "
                            f"{_UNPACKER_SECONDS:g} s; end the process kubeletpy-unpacker"
                        ) from None
                time.sleep(0.01)
        finally:
            os.close(directory)

    def _remove_directory(self, name: str) -> None:
        base = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_entry(base, name)
        finally:
            os.close(base)

    def path(self, number: int) -> Path:
        """Return the directory of a snapshot's files."""
        return self.base / str(number) / "fs"

    # Layers.

    def layer(self, chain_id: str) -> Snapshot | None:
        """Return the snapshot of a layer that is ready."""
        found = self._metadata.snapshots("layer", chain_id)
        return found[0] if found and found[0].ready else None

    def layers_top_first(self, chain: Iterable[str]) -> list[Snapshot]:
        """Return the snapshots that make up a chain, without those that a layer hides wholly.

        Args:
            chain: chain ids, bottom first, as in :class:`Image`.

        Raises:
            ImageNotFound: one of them is not here.
        """
        visible: list[Snapshot] = []
        for chain_id in reversed(list(chain)):
            found = self.layer(chain_id)
            if found is None:
                raise ImageNotFound(f"layer {chain_id} is not unpacked; pull its image again")
            visible.append(found)
            if found.opaque:
                break
        return visible

    def begin_layer(self, chain_id: str) -> int:
        """Make room for a layer: its number, whose :meth:`path` is an empty directory.

        The caller fills it and calls :meth:`layer_ready` or :meth:`discard_layer`.

        Raises:
            NoSpace, StoreError: the disk or the database failed.
        """
        number = self._metadata.new_snapshot("layer", chain_id)
        try:
            with disk_errors(f"making the snapshot of layer {chain_id}", self.base):
                (self.base / str(number)).mkdir(mode=0o700)
                self.path(number).mkdir(mode=0o755)
        except BaseException:
            self._discard(number)
            raise
        return number

    def discard_layer(self, number: int) -> None:
        """Remove a layer that could not be finished.

        Its files go first: on a full disk the database may need the room.

        Raises:
            NoSpace, StoreError: the disk or the database failed.
        """
        with disk_errors(f"removing snapshot {number}"):
            self._remove_directory(str(number))
        self._metadata.forget_snapshot(number)

    def layer_ready(self, number: int, used_bytes: int, inodes: int, opaque: bool) -> None:
        """Record that a layer is whole, and what it takes on the disk.

        Raises:
            StoreError: the database failed.
        """
        self._metadata.ready_snapshot(number, used_bytes=used_bytes, inodes=inodes, opaque=opaque)

    def _discard(self, number: int, *, durable: bool = True) -> None:
        self._metadata.forget_snapshot(number, durable=durable)
        with disk_errors(f"removing snapshot {number}"):
            self._remove_directory(str(number))

    def layers(self) -> list[Snapshot]:
        """Return all layers that are ready."""
        return [row for row in self._metadata.snapshots("layer") if row.ready]

    def unfinished_layers(self) -> list[Snapshot]:
        """Return the layers that are being made, or that a failure has left so."""
        return [row for row in self._metadata.snapshots("layer") if not row.ready]

    def remove_layer(self, layer: Snapshot) -> int:
        """Remove a layer unless a container stands on it; returns the bytes that were freed.

        Raises:
            StoreError: the disk or the database failed.
        """
        if not self._metadata.forget_unused_layer(layer.number):
            return 0
        with disk_errors(f"removing snapshot {layer.number}"):
            self._remove_directory(str(layer.number))
        return layer.bytes

    def layers_usage(self) -> tuple[int, int]:
        """Return bytes and inodes of all layers, as measured when they were unpacked."""
        rows = self._metadata.snapshots("layer")
        return sum(row.bytes for row in rows), sum(row.inodes for row in rows)

    # Containers.

    def prepare(self, container_id: str, image: Image) -> Rootfs:
        """Make the writable directory of a container on top of an image.

        Preparing the same container twice gives the same directories again.

        Raises:
            ImageNotFound: a layer of the image is not unpacked.
            NoSpace, StoreError: the disk or the database failed.
        """
        existing = self.rootfs(container_id)
        if existing is not None:
            return existing
        lower = self._lower_of(image)
        number = self._metadata.new_snapshot("container", container_id, lower)
        try:
            with disk_errors(f"making the writable layer of container {container_id}", self.base):
                self._make_writable(number, lower[0] if lower else None)
            self._metadata.ready_snapshot(number)
        except BaseException:
            self._discard(number)
            raise
        return self._rootfs(number, tuple(lower))

    def prepare_volume(self, container_id: str, name: str, image: Image) -> VolumeLayers:
        """Keep the layers of an image that a container mounts, for as long as the container is.

        Preparing the same volume twice gives the same directories again.

        Args:
            container_id: whose volume.
            name: which of its volumes; without ``:``.
            image: what is mounted.

        Raises:
            ImageNotFound: a layer of the image is not unpacked.
            NoSpace, StoreError: the disk or the database failed.
        """
        key = f"{container_id}:{name}"
        lower = self._lower_of(image)
        found = [row for row in self._metadata.snapshots("container", key) if row.ready]
        if found:
            return self._volume(found[0].number, found[0].lower)
        number = self._metadata.new_snapshot("container", key, lower)
        try:
            with disk_errors(f"making image volume {name} of container {container_id}", self.base):
                directory = self.base / str(number)
                directory.mkdir(mode=0o700)
                (directory / "lower").mkdir(mode=0o755)
                os.chmod(directory / "lower", 0o755)
            self._metadata.ready_snapshot(number)
        except BaseException:
            self._discard(number)
            raise
        return self._volume(number, tuple(lower))

    def _volume(self, number: int, lower: tuple[int, ...]) -> VolumeLayers:
        layers = tuple(f"{layer}/fs" for layer in lower)
        return VolumeLayers(base=str(self.base), layers=(*layers, f"{number}/lower"))

    def find_in_image(self, image: Image, path: str) -> int | None:
        """Return the mode (``st_mode``) of what is at ``path`` of an image; None if nothing is.

        Links are followed inside the image.

        Raises:
            ImageNotFound: a layer of the image is not unpacked.
            StoreError: it cannot be read.
        """
        layers = [self.path(row.number) for row in self.layers_top_first(image.chain)]
        with disk_errors(f"looking up {path} of image {image.id}"), ExitStack() as resources:
            found = MergedTree(layers).find(path, resources)
            return found.status.st_mode if found else None

    def _lower_of(self, image: Image) -> list[int]:
        """Return the numbers of an image's layers, the topmost first."""
        lower = [row.number for row in self.layers_top_first(image.chain)]
        if sum(len(f"{number}/fs:") for number in lower) > MAX_OPTIONS:
            raise StoreError(
                f"image {image.id} has {len(lower)} layers: their names exceed overlayfs' page of "
                "mount options; squash the image"
            )
        return lower

    def _make_writable(self, number: int, top: int | None) -> None:
        directory = self.base / str(number)
        directory.mkdir(mode=0o700)
        (directory / "work").mkdir(mode=0o700)
        upper = directory / "fs"
        upper.mkdir(mode=0o755)
        if top is None:
            (directory / "lower").mkdir(mode=0o755)
            os.chmod(upper, 0o755)
            return
        # The merged root shows the attributes of the upper directory, not the image's.
        status = os.stat(self.path(top), follow_symlinks=False)
        os.chown(upper, status.st_uid, status.st_gid)
        os.chmod(upper, stat.S_IMODE(status.st_mode))

    def _rootfs(self, number: int, lower: tuple[int, ...]) -> Rootfs:
        return Rootfs(
            lower=tuple(f"{layer}/fs" for layer in lower) or (f"{number}/lower",),
            upper=f"{number}/fs",
            work=f"{number}/work",
            base=str(self.base),
        )

    def rootfs(self, container_id: str) -> Rootfs | None:
        """Return what :meth:`prepare` returned for this container; None if it was not called."""
        found = self._metadata.snapshots("container", container_id)
        if not found or not found[0].ready:
            return None
        return self._rootfs(found[0].number, found[0].lower)

    def remove(self, container_id: str) -> None:
        """Remove a container's writable directory and let go of its volumes; idempotent.

        Raises:
            StoreError: the disk or the database failed, or it is still mounted.
        """
        for row in self._metadata.container_snapshots(container_id):
            self._discard(row.number, durable=False)

    def reconcile(self, known: set[str]) -> list[str]:
        """Remove the directories of containers that are not in ``known``; returns their ids.

        Raises:
            StoreError: the disk or the database failed.
        """
        owners = {row.key.partition(":")[0] for row in self._metadata.snapshots("container")}
        unknown = sorted(owners - known)
        for container_id in unknown:
            event(log, logging.INFO, "writable layer of an unknown container removed",
                  container=container_id)  # fmt: skip
            self.remove(container_id)
        return unknown

    def usage(self, container_id: str) -> tuple[int, int] | None:
        """Return bytes and inodes of a container's writable directory; walks it.

        Raises:
            StoreError: the disk failed.
        """
        found = self._metadata.snapshots("container", container_id)
        if not found or not found[0].ready:
            return None
        with disk_errors(f"measuring the writable layer of container {container_id}"):
            return usage(self.path(found[0].number))

    def read_image_file(self, image: Image, path: str, limit: int) -> bytes | None:
        """Read a regular file of an image, such as ``etc/passwd``.

        Links are followed inside the image; whiteouts and opaque directories are honoured.

        Args:
            image: whose file.
            path: in the image.
            limit: bytes.

        Returns:
            the content; None if there is no such regular file.

        Raises:
            ImageNotFound: a layer of the image is not unpacked.
            FileTooLarge: the file is longer than ``limit``.
            StoreError: it cannot be read.
        """
        layers = [self.path(row.number) for row in self.layers_top_first(image.chain)]
        with disk_errors(f"reading {path} of image {image.id}"):
            return read_file(layers, path, limit)
