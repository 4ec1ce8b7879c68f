from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.eviction.ranking import eviction_message, rank
from kubeletpy.eviction.signals import Amount, Observation, Signal, Threshold
from kubeletpy.eviction.storage import excess, limited
from kubeletpy.eviction.usage import ContainerUsage, Disk, Disks, PodUsage, counted

from ..api.pods import make_pod, with_container

MI = 2**20


def pod(uid: str, requested: str = "", priority: int = 0, **more: Any) -> Pod:
    resources = {"requests": {"memory": requested}} if requested else {}
    made = make_pod(**with_container(resources=resources), priority=priority, **more)
    made.metadata.uid = made.metadata.name = uid
    return made


def order(pods: list[Pod], usages: dict[str, PodUsage], signal: Signal) -> list[str]:
    return [one.metadata.uid for one in rank(pods, usages, signal, Disks())]


def test_by_memory() -> None:
    pods = [
        pod("within", "100Mi"), pod("over", "100Mi"), pod("far-over", "100Mi"), pod("best"),
        pod("important", "10Mi", priority=5), pod("unknown", "100Mi"),
    ]  # fmt: skip
    used = {"within": 90, "over": 120, "far-over": 400, "best": 200, "important": 500}
    usages = {name: PodUsage(memory=amount * MI) for name, amount in used.items()}
    assert order(pods, usages, Signal.MEMORY) == [
        "unknown", "far-over", "best", "over", "important", "within",
    ]  # fmt: skip


def test_by_processes() -> None:
    usages = {"few": PodUsage(processes=5), "many": PodUsage(processes=50),
              "important": PodUsage(processes=500)}  # fmt: skip
    pods = [pod("important", priority=1), pod("few"), pod("many")]
    assert order(pods, usages, Signal.PIDS) == ["many", "few", "important"]


def test_by_disk_and_inodes() -> None:
    usages = {
        "big": PodUsage(containers={"main": ContainerUsage(rootfs=Disk(9 * MI, 1))}),
        "small-files": PodUsage(volumes={"data": Disk(MI, 900)}),
    }
    pods = [pod("big"), pod("small-files")]
    assert order(pods, usages, Signal.NODE_FS) == ["big", "small-files"]
    assert order(pods, usages, Signal.NODE_FS_INODES) == ["small-files", "big"]


@pytest.mark.parametrize(
    ("signal", "disks", "bytes_"),
    [
        (Signal.NODE_FS, Disks(), 1111),
        (Signal.IMAGE_FS, Disks(), 1111),
        (Signal.NODE_FS, Disks(image_fs=True), 1110),
        (Signal.IMAGE_FS, Disks(image_fs=True), 1),
        (Signal.CONTAINER_FS, Disks(image_fs=True), 1),
        (Signal.NODE_FS, Disks(image_fs=True, split=True), 1111),
        (Signal.IMAGE_FS, Disks(image_fs=True, split=True), 0),
    ],
)
def test_what_counts_where(signal: Signal, disks: Disks, bytes_: int) -> None:
    usage = PodUsage(
        containers={"main": ContainerUsage(rootfs=Disk(1), logs=Disk(10))},
        volumes={"data": Disk(100)},
        own=Disk(1000),
    )
    assert counted(pod("a"), usage, signal, disks).bytes == bytes_


def test_message_about_memory() -> None:
    threshold = Threshold(Signal.MEMORY, Amount(Quantity("100Mi")))
    usage = PodUsage(200 * MI, containers={"main": ContainerUsage(memory=150 * MI)})
    seen = {Signal.MEMORY: Observation(50 * MI, 1000 * MI)}
    assert eviction_message(pod("a", "64Mi"), usage, threshold, [threshold], seen) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 150Mi, request is 64Mi, has larger consumption of memory. "
    )
    within = eviction_message(pod("a", "1Gi"), usage, threshold, [threshold], seen)
    assert within == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    )


def test_message_about_a_share_of_the_disk() -> None:
    threshold = Threshold(Signal.NODE_FS, Amount(share=0.1))
    seen = {Signal.NODE_FS: Observation(50 * MI, 1000 * MI)}
    usage = PodUsage(containers={"main": ContainerUsage(rootfs=Disk(3 * MI), logs=Disk(MI))})
    assert eviction_message(pod("a"), usage, threshold, [threshold], seen) == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, "
        "available: 50Mi. Container main was using 4Mi, request is 0, has larger consumption of "
        "ephemeral-storage. "
    )


LIMITED = {"limits": {"ephemeral-storage": "10Mi"}}


@pytest.mark.parametrize(
    ("spec", "usage", "message"),
    [
        ({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]},
         PodUsage(volumes={"data": Disk(2 * MI)}),
         'Usage of EmptyDir volume "data" exceeds the limit "1Mi". '),
        ({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]},
         PodUsage(volumes={"data": Disk(MI)}), ""),
        (with_container(resources=LIMITED),
         PodUsage(containers={"main": ContainerUsage(logs=Disk(6 * MI))},
                  volumes={"data": Disk(5 * MI)}),
         "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "),
        # What hides in /etc/hosts and termination logs counts (CVE-2020-8557).
        (with_container(resources=LIMITED), PodUsage(own=Disk(11 * MI)),
         "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "),
        ({"containers": [
            {"name": "main", "image": "x", "resources": LIMITED},
            {"name": "other", "image": "x",
             "resources": {"limits": {"ephemeral-storage": "90Mi"}}}]},
         PodUsage(containers={"main": ContainerUsage(rootfs=Disk(11 * MI))}),
         'Container main exceeded its local ephemeral storage limit "10Mi". '),
    ],
)  # fmt: skip
def test_limits_of_storage(spec: dict[str, Any], usage: PodUsage, message: str) -> None:
    made = make_pod(**spec)
    assert limited(made)
    assert excess(made, usage, Disks()) == message


def test_writable_layers_elsewhere_do_not_count_against_a_container() -> None:
    made = make_pod(
        containers=[
            {"name": "main", "image": "x", "resources": LIMITED},
            {"name": "b", "image": "x", "resources": {"limits": {"ephemeral-storage": "90Mi"}}},
        ]
    )
    usage = PodUsage(containers={"main": ContainerUsage(rootfs=Disk(11 * MI))})
    assert excess(made, usage, Disks(image_fs=True)) == ""


def test_a_pod_without_limits_is_not_measured() -> None:
    assert not limited(make_pod(volumes=[{"name": "data", "emptyDir": {}}]))
