"""What pods and their containers use, by the runtime's word and their cgroups (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubeletpy.cri import labels
from kubeletpy_proto import cri_pb2 as cri

from .node import Interface
from .usage import Usage, of_container, of_pod


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container that runs.

    Attributes:
        layer, layer_inodes: size of its writable layer; None: not known.
        mountpoint: file system of that.
    """

    id: str
    name: str
    usage: Usage
    layer: int | None = None
    layer_inodes: int | None = None
    mountpoint: str = ""


@dataclass(slots=True)
class PodUsage:
    """A pod that runs.

    Attributes:
        sandbox: id of its sandbox.
        cgroup: path of its cgroup; "" if it is not one of the kubelet's pods.
    """

    uid: str
    name: str
    namespace: str
    sandbox: str = ""
    cgroup: str = ""
    usage: Usage = field(default_factory=Usage)
    containers: list[ContainerUsage] = field(default_factory=list)
    interfaces: tuple[Interface, ...] = ()
    processes: int | None = None


def of_sandboxes(listed: Iterable[cri.PodSandboxStats]) -> list[PodUsage]:
    """Return the pods of ListPodSandboxStats."""
    found: dict[str, PodUsage] = {}
    for one in listed:
        meta, linux = one.attributes.metadata, one.linux
        pod = PodUsage(meta.uid, meta.name, meta.namespace, one.attributes.id, usage=of_pod(linux))
        pod.containers = [container_usage(each) for each in linux.containers]
        if linux.HasField("network"):
            network = linux.network
            every = (network.default_interface, *network.interfaces)
            named = {each.name: _interface(each) for each in every if each.name}
            pod.interfaces = tuple(named.values())
        if linux.process.HasField("process_count"):
            pod.processes = linux.process.process_count.value
        other = found.get(meta.uid)
        if other is None or len(other.containers) <= len(pod.containers):
            found[meta.uid] = pod
    return list(found.values())


def of_containers(listed: Iterable[cri.ContainerStats]) -> list[PodUsage]:
    """Return the pods of ListContainerStats, for runtimes without more."""
    found: dict[str, PodUsage] = {}
    for one in listed:
        known = one.attributes.labels
        uid = known.get(labels.POD_UID, "")
        if not uid:
            continue
        pod = found.setdefault(
            uid,
            PodUsage(uid, known.get(labels.POD_NAME, ""), known.get(labels.POD_NAMESPACE, "")),
        )
        pod.containers.append(container_usage(one))
    return list(found.values())


def container_usage(one: cri.ContainerStats) -> ContainerUsage:
    """Return what the runtime tells of a container."""
    known, layer = one.attributes, one.writable_layer
    has_layer = one.HasField("writable_layer")
    return ContainerUsage(
        known.id,
        known.labels.get(labels.CONTAINER_NAME, known.metadata.name),
        of_container(one),
        layer.used_bytes.value if has_layer else None,
        layer.inodes_used.value if has_layer else None,
        layer.fs_id.mountpoint,
    )


def _interface(one: cri.NetworkInterfaceUsage) -> Interface:
    return Interface(
        one.name,
        one.rx_bytes.value,
        one.rx_errors.value,
        one.tx_bytes.value,
        one.tx_errors.value,
    )
