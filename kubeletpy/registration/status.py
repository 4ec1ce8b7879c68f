"""NodeStatus, from what is known of the node (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeletpy.settings import Settings
from kubeletpy_proto import cri_pb2

from .capacity import allocatable, capacity, missing, written
from .conditions import conditions, differ
from .machine import Machine
from .runtime_health import RuntimeState

KUBERNETES = "v1.36.2"
"""The version of the Go kubelet whose place this one takes."""
NAMES_OF_AN_IMAGE = 5
"""Names of an image that a status tells at most."""
_DECLARED = (
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
)
_HOST_NETWORK_USERNS = "UserNamespacesHostNetworkSupport"

Status = dict[str, Any]


@dataclass(kw_only=True)
class NodeKnowledge:
    """What a status is made from.

    Attributes:
        name, hostname: of the node; hostname is the address of type Hostname.
        settings: of the kubelet.
        machine: what the machine is.
        ips: addresses, the primary one first.
        port: of the kubelet's API.
        runtime: state of the runtime.
        images: as the runtime lists them.
        pressure: what the node is short of.
        faults: why it is not ready, besides the runtime.
    """

    name: str
    hostname: str
    settings: Settings
    machine: Machine
    ips: Sequence[str]
    port: int
    runtime: RuntimeState = field(default_factory=RuntimeState)
    images: Sequence[cri_pb2.Image] = ()
    pressure: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()


def node_status(
    known: NodeKnowledge, before: Mapping[str, Any], at: datetime
) -> tuple[Status, list[str]]:
    """Return the status of the node, and reasons of events about what changed.

    Args:
        known: what is known now.
        before: the status that the API server has; what others write into it stays.
        at: now.
    """
    settings, one = known.settings, known.settings.configuration
    has = capacity(known.machine, one)
    usable = allocatable(has, settings)
    status = dict(before)
    status["capacity"] = _kept(before.get("capacity"), written(has))
    status["allocatable"] = _kept(before.get("allocatable"), written(usable))
    status["addresses"] = _addresses(known, before)
    status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": known.port}}
    status["nodeInfo"] = _info(known)
    status["images"] = images(known.images, one.node_status_max_images)
    status["runtimeHandlers"] = known.runtime.handler_status()
    if known.runtime.supplemental_groups_policy is not None:
        status["features"] = {"supplementalGroupsPolicy": known.runtime.supplemental_groups_policy}
    status["declaredFeatures"] = _declared(known)
    lacking = missing(status["capacity"], one)
    faults = [*known.runtime.faults, *known.faults]
    if lacking:
        faults.append(f"missing node capacity for resources: {', '.join(lacking)}")
    status["conditions"], events = conditions(
        before.get("conditions") or (), known.pressure, faults, at
    )
    return {key: value for key, value in status.items() if value not in ([], {})}, events


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether two statuses differ in more than heart-beats."""
    if differ(before.get("conditions") or (), after.get("conditions") or ()):
        return True

    def rest(status: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in status.items() if key != "conditions" and value}

    return rest(before) != rest(after)


def images(found: Sequence[cri_pb2.Image], most: int) -> list[dict[str, Any]]:
    """Return NodeStatus.images: the largest first, not more than ``most`` (-1: all)."""
    largest = sorted(found, key=lambda one: (one.size, one.id), reverse=True)
    result = []
    for image in largest if most < 0 else largest[:most]:
        names = [*image.repo_digests, *image.repo_tags][:NAMES_OF_AN_IMAGE]
        told: dict[str, Any] = {"names": names} if names else {}
        if image.size:
            told["sizeBytes"] = int(image.size)
        result.append(told)
    return result


def _kept(before: object, ours: Mapping[str, str]) -> dict[str, str]:
    """Return our amounts and those of others: extended resources; huge pages of sizes gone go."""
    found = dict(before) if isinstance(before, dict) else {}
    for name in [name for name in found if "/" not in name]:
        del found[name]
    return found | dict(ours)


def _addresses(known: NodeKnowledge, before: Mapping[str, Any]) -> list[dict[str, str]]:
    if known.settings.cloud_provider:
        # They are the cloud controller's to say.
        told = before.get("addresses")
        if isinstance(told, list) and told:
            return told
        if not known.settings.node_ips:
            return [{"type": "Hostname", "address": known.hostname}]
    addresses = [{"type": "InternalIP", "address": ip} for ip in known.ips]
    return [*addresses, {"type": "Hostname", "address": known.hostname}]


def _info(known: NodeKnowledge) -> dict[str, Any]:
    machine = known.machine
    info: dict[str, Any] = {
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel,
        "osImage": machine.os_image,
        "containerRuntimeVersion": known.runtime.version,
        "kubeletVersion": KUBERNETES,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }
    if machine.swap:
        info["swap"] = {"capacity": machine.swap}
    return info


def _declared(known: NodeKnowledge) -> list[str]:
    if not known.settings.feature("NodeDeclaredFeatures"):
        return []
    found = [name for name in _DECLARED if known.settings.feature(name)]
    if known.runtime.host_network_user_namespaces and known.settings.feature(_HOST_NETWORK_USERNS):
        found.append(_HOST_NETWORK_USERNS)
    return sorted(found)
