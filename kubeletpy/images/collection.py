"""Garbage collection of images: by disk usage between two thresholds, and by age.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

_log = logging.getLogger(__name__)
PERIOD = 300.0
"""Seconds between looks at the disk, as in the Go kubelet."""
_RETRY = 30.0
_NAMED = 5
"""How many images in use a message names."""


class ImageService(Protocol):
    """What is needed of the runtime."""

    async def list_images(self) -> list[cri_pb2.Image]:
        """List images."""

    async def list_containers(
        self, *, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.Container]:
        """List containers."""

    async def remove_image(self, image: str) -> None:
        """Remove an image."""

    async def image_fs_info(self) -> cri_pb2.ImageFsInfoResponse:
        """Tell where images are."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When images go: percentages of the disk, ages in seconds; ``maximum_age`` 0: never by age."""

    high_percent: int = 85
    low_percent: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0


@dataclass
class Known:
    """An image: when it was first seen and last used, its size, who uses it now."""

    id: str
    size: int
    first_seen: float
    last_used: float = 0.0
    names: tuple[str, ...] = ()
    pinned: bool = False
    users: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The first of its names, or its id."""
        return self.names[0] if self.names else self.id


@dataclass
class Collected:
    """What a collection did; bytes that were freed, and images that could not be removed."""

    freed: int = 0
    removed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def users_of(
    images: Iterable[cri_pb2.Image],
    containers: Iterable[cri_pb2.Container],
    pods: Iterable[Pod],
) -> dict[str, list[str]]:
    """Return who uses each image, by its id (pure): containers, dead ones too, image volumes."""
    ids: dict[str, str] = {}
    for image in images:
        for name in (image.id, *image.repo_tags, *image.repo_digests):
            ids[name] = image.id
    users: dict[str, list[str]] = {}
    for one in containers:
        notes = one.labels
        who = f"{notes.get(labels.POD_NAMESPACE, '')}/{notes.get(labels.POD_NAME, '')}"
        for name in {one.image_id, one.image_ref, one.image.image} - {""}:
            if name in ids:
                users.setdefault(ids[name], []).append(who)
                break
    for pod in pods:
        who = f"{pod.metadata.namespace}/{pod.metadata.name}"
        for volume in pod.spec.volumes:
            reference = volume.image.reference if volume.image is not None else ""
            for name in (reference, f"{reference}:latest", f"docker.io/library/{reference}"):
                if name in ids:
                    users.setdefault(ids[name], []).append(who)
                    break
    return users


def candidates(known: Iterable[Known], now: float, minimum_age: float) -> list[Known]:
    """Return the images that may go, those that were not used for the longest time first (pure)."""
    free = [
        one
        for one in known
        if not one.users and not one.pinned and now - one.first_seen >= minimum_age
    ]
    return sorted(free, key=lambda one: (one.last_used, one.first_seen))


def amount_to_free(capacity: int, available: int, policy: Policy) -> int:
    """Return the bytes to free, 0 as long as the disk is below the high threshold (pure)."""
    available = min(available, capacity)
    used_percent = 100 - available * 100 // capacity
    if used_percent < policy.high_percent:
        return 0
    return max(0, capacity * (100 - policy.low_percent) // 100 - available)


def insufficient(capacity: int, available: int, freed: int, known: Sequence[Known]) -> str:
    """Return what to say if not enough could be freed, and what holds the largest images (pure)."""
    percent = 100 - min(available, capacity) * 100 // capacity
    text = (
        f"Insufficient free disk space on the node's image filesystem ({percent}% of "
        f"{size_text(capacity)} used). Failed to free sufficient space by deleting unused images "
        f"(freed {freed} bytes). Investigate disk usage, as it could be used by active images, "
        "logs, volumes, or other data."
    )
    held = sorted((one for one in known if one.users or one.pinned), key=lambda one: -one.size)
    parts = []
    for one in held[:_NAMED]:
        users = sorted(set(one.users))
        by = ", ".join(users[:2]) + (f" and {len(users) - 2} more" if len(users) > 2 else "")
        parts.append(f"{one.name} ({size_text(one.size)}) by {by or 'the runtime (pinned)'}")
    if parts:
        total = size_text(sum(one.size for one in held))
        text += f" {len(held)} images in use take {total}: {'; '.join(parts)}."
    return text


def size_text(size: int) -> str:
    """Return bytes for people: ``1.5 GiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.1f} {unit}" if unit != "B" else f"{size} B"
        amount /= 1024
    return f"{amount:.1f} TiB"


class ImageCollector:
    """Removes images that nobody uses.

    Args:
        service: the runtime.
        policy: when.
        recorder: takes events.
        pods: returns the pods of the node, for their image volumes.
        clock: seconds.
    """

    def __init__(
        self,
        service: ImageService,
        policy: Policy,
        recorder: Recorder,
        pods: Callable[[], Sequence[Pod]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._policy = policy
        self._recorder = recorder
        self._pods = pods
        self._clock = clock
        self._begun = clock()
        self._known: dict[str, Known] = {}
        self._noted: dict[str, tuple[float, float]] = {}
        self._turn = asyncio.Lock()
        self.counted: Callable[[str], None] = lambda reason: None

    def used(self, pod: Pod, status: PodStatus) -> None:
        """Take note of the images of a pod's containers, between two looks at all images.

        An image that came and was used since the last look would else count as new when the disk
        is full, and a pod would be evicted in its place.
        """
        now = self._clock()
        for one in (*status.init_container_statuses, *status.container_statuses):
            if one.image_id:
                first, _ = self._noted.get(one.image_id, (now, now))
                self._noted[one.image_id] = (first, now)

    async def run(self) -> None:
        """Collect again and again until cancelled."""
        told = ""
        while True:
            pause = PERIOD
            try:
                await self.collect()
                told = ""
            except CriError as error:
                pause = _RETRY
                if str(error) != told:
                    told = str(error)
                    logs.event(_log, logging.WARNING, "images not collected", reason=told)
            await asyncio.sleep(pause)

    async def collect(self) -> Collected:
        """Look at age and disk, and remove what is due.

        Raises:
            CriError: the runtime does not answer.
        """
        async with self._turn:
            now = self._clock()
            await self._look(now)
            done = await self._by_age(now)
            place = await self._place()
            if not place:
                return done
            disk = os.statvfs(place)
            capacity, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
            if not capacity:
                text = "invalid capacity 0 on image filesystem"
                self._recorder.node("Warning", "InvalidDiskCapacity", text)
                return done
            wanted = amount_to_free(capacity, available, self._policy)
            if not wanted:
                return done
            await self._free(wanted, now, done)
            if done.freed < wanted:
                known = list(self._known.values())
                text = insufficient(capacity, available, done.freed, known)
                self._recorder.node("Warning", "FreeDiskSpaceFailed", text)
            return done

    async def remove_unused(self) -> bool:
        """Remove all images that nobody uses; return whether any went."""
        async with self._turn:
            now = self._clock()
            try:
                await self._look(now)
            except CriError:
                return False
            done = await self._free(None, now, Collected())
            return bool(done.removed)

    async def _place(self) -> str:
        info = await self._service.image_fs_info()
        return next((one.fs_id.mountpoint for one in info.image_filesystems), "")

    async def _look(self, now: float) -> None:
        images, containers = await asyncio.gather(
            self._service.list_images(), self._service.list_containers()
        )
        users: Mapping[str, list[str]] = users_of(images, containers, self._pods())
        found: dict[str, Known] = {}
        noted, self._noted = self._noted, {}
        for image in images:
            names = (*image.repo_tags, *image.repo_digests)
            notes = [noted[name] for name in (image.id, *names) if name in noted]
            one = self._known.get(image.id)
            if one is None:
                one = Known(image.id, image.size, min([now, *(first for first, _ in notes)]))
            one.size, one.pinned, one.names = image.size, image.pinned, names
            one.last_used = max([one.last_used, *(last for _, last in notes)])
            one.users = tuple(users.get(image.id, ()))
            if one.users:
                one.last_used = now
            found[image.id] = one
        self._known = found

    async def _by_age(self, now: float) -> Collected:
        done, oldest = Collected(), self._policy.maximum_age
        # Before it has run that long, a kubelet cannot know what was used.
        if not oldest or now - self._begun <= oldest:
            return done
        for one in candidates(self._known.values(), now, self._policy.minimum_age):
            if now - max(one.last_used, one.first_seen) > oldest:
                await self._remove(one, "age", done)
        return done

    async def _free(self, wanted: int | None, now: float, done: Collected) -> Collected:
        for one in candidates(self._known.values(), now, self._policy.minimum_age):
            if wanted is not None and done.freed >= wanted:
                break
            await self._remove(one, "space", done)
        return done

    async def _remove(self, one: Known, reason: str, done: Collected) -> None:
        try:
            await self._service.remove_image(one.id)
        except CriError as error:
            done.errors.append(f"{one.name}: {error.message}")
            logs.event(_log, logging.WARNING, "image not removed", image=one.name,
                       reason=str(error))  # fmt: skip
            return
        self._known.pop(one.id, None)
        done.freed += one.size
        done.removed.append(one.name)
        self.counted(reason)
        logs.event(_log, logging.INFO, "image removed", image=one.name, bytes=one.size,
                   because=reason)  # fmt: skip
