from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.cri import labels
from kubeletpy.events import Recorder
from kubeletpy.images.collection import (
    ImageCollector,
    Known,
    Policy,
    amount_to_free,
    candidates,
    insufficient,
    size_text,
    users_of,
)
from kubeletpy_proto import cri_pb2

from ..api.pods import make_pod

GI = 2**30


def image(name: str, size: int = GI, *, pinned: bool = False) -> cri_pb2.Image:
    return cri_pb2.Image(id=f"sha256:{name}", repo_tags=[f"{name}:1"], size=size, pinned=pinned)


def container(name: str, pod: str = "web") -> cri_pb2.Container:
    notes = {labels.POD_NAMESPACE: "default", labels.POD_NAME: pod}
    return cri_pb2.Container(id=f"c-{name}", image_id=f"sha256:{name}", labels=notes)


class Runtime:
    """Images and containers of a node."""

    def __init__(self, mountpoint: Path, *images: cri_pb2.Image) -> None:
        self.images = list(images)
        self.containers: list[cri_pb2.Container] = []
        self.mountpoint = mountpoint

    async def list_images(self) -> list[cri_pb2.Image]:
        return list(self.images)

    async def list_containers(
        self, *, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.Container]:
        return list(self.containers)

    async def remove_image(self, image: str) -> None:
        self.images = [one for one in self.images if one.id != image]

    async def image_fs_info(self) -> cri_pb2.ImageFsInfoResponse:
        place = cri_pb2.FilesystemIdentifier(mountpoint=str(self.mountpoint))
        return cri_pb2.ImageFsInfoResponse(image_filesystems=[cri_pb2.FilesystemUsage(fs_id=place)])


class Setting:
    """A collector with its clock and disk."""

    def __init__(self, runtime: Runtime, policy: Policy, pods: list[Pod] | None = None) -> None:
        self.now = 10_000.0
        self.recorder = Recorder("n1")
        self.collector = ImageCollector(
            runtime, policy, self.recorder, lambda: pods or [], lambda: self.now
        )

    def collect(self) -> list[str]:
        return asyncio.run(self.collector.collect()).removed


class Disk:
    """What statvfs says."""

    f_frsize = 1
    f_blocks = 100 * GI

    def __init__(self, free: int) -> None:
        self.f_bavail = free


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of 100 GiB of which 10 are free."""
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(10 * GI))


@pytest.mark.parametrize(
    ("available", "wanted"),
    [(100, 0), (16, 0), (15, 5), (0, 20), (1000, 0)],
)
def test_how_much_to_free(available: int, wanted: int) -> None:
    assert amount_to_free(100, available, Policy()) == wanted


def test_the_longest_unused_go_first() -> None:
    known = [
        Known("new", 1, first_seen=950),
        Known("late", 1, first_seen=0, last_used=900),
        Known("early", 1, first_seen=0, last_used=100),
        Known("never", 1, first_seen=10),
        Known("used", 1, first_seen=0, users=("default/web",)),
        Known("pinned", 1, first_seen=0, pinned=True),
    ]
    assert [one.id for one in candidates(known, 1000, 120)] == ["never", "early", "late"]


def test_who_uses_what() -> None:
    pod = make_pod(volumes=[{"name": "tools", "image": {"reference": "tools:1"}}])
    users = users_of([image("web"), image("tools"), image("old")], [container("web")], [pod])
    assert users == {"sha256:web": ["default/web"], "sha256:tools": ["default/web"]}


def test_nothing_goes_before_its_minimum_age(tmp_path: Path, full: None) -> None:
    setting = Setting(Runtime(tmp_path, image("a", 5 * GI), image("b", 9 * GI)), Policy())
    assert setting.collect() == []
    setting.now += 121
    # 10 GiB are free and 20 wanted: both have to go.
    assert sorted(setting.collect()) == ["a:1", "b:1"]


def test_an_image_is_as_old_as_its_first_use(tmp_path: Path) -> None:
    """It may have come and been used between two looks."""
    runtime = Runtime(tmp_path, image("used"), image("new"))
    setting = Setting(runtime, Policy())
    one = ContainerStatus(
        name="a", ready=True, restart_count=0, image="used:1", image_id="sha256:used"
    )
    status = PodStatus(container_statuses=[one])
    setting.collector.used(make_pod(), status)
    setting.now += 121
    assert asyncio.run(setting.collector.remove_unused())
    assert [one.id for one in runtime.images] == ["sha256:new"]


def test_it_stops_at_the_low_threshold(tmp_path: Path, full: None) -> None:
    runtime = Runtime(tmp_path, *(image(name, 6 * GI) for name in "abc"))
    setting = Setting(runtime, Policy(minimum_age=0))
    assert len(setting.collect()) == 2
    assert setting.recorder.events() == []


def test_what_cannot_be_freed_is_named_with_who_holds_it(tmp_path: Path, full: None) -> None:
    runtime = Runtime(tmp_path, image("web", 40 * GI), image("pause", 1, pinned=True))
    runtime.containers = [container("web"), container("web", "other")]
    setting = Setting(runtime, Policy(minimum_age=0))
    assert setting.collect() == []
    (event,) = setting.recorder.events()
    assert event.reason == "FreeDiskSpaceFailed"
    assert event.message == (
        "Insufficient free disk space on the node's image filesystem (90% of 100.0 GiB used). "
        "Failed to free sufficient space by deleting unused images (freed 0 bytes). Investigate "
        "disk usage, as it could be used by active images, logs, volumes, or other data. 2 images "
        "in use take 40.0 GiB: web:1 (40.0 GiB) by default/other, default/web; "
        "pause:1 (1 B) by the runtime (pinned)."
    )


def test_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(90 * GI))
    runtime = Runtime(tmp_path, image("old"), image("used"))
    runtime.containers = [container("used")]
    setting = Setting(runtime, Policy(maximum_age=1000))
    setting.now += 500
    assert setting.collect() == []
    setting.now += 999
    assert setting.collect() == []
    setting.now += 2
    assert setting.collect() == ["old:1"]


def test_all_that_nobody_uses_goes_under_pressure(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, image("a"), image("b"))
    runtime.containers = [container("a")]
    setting = Setting(runtime, Policy(minimum_age=0))
    assert asyncio.run(setting.collector.remove_unused())
    assert [one.id for one in runtime.images] == ["sha256:a"]
    assert not asyncio.run(setting.collector.remove_unused())


@pytest.mark.parametrize(
    ("size", "text"), [(5, "5 B"), (1536, "1.5 KiB"), (GI, "1.0 GiB"), (2**42, "4.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_message_without_images() -> None:
    assert insufficient(100, 5, 0, []).endswith("or other data.")
