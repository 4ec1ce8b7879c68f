"""Pods and namespaces, of each only what policies need.

Decoding leaves everything else out, so that a pod costs its few fields and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ..model import objects
from ..model.addresses import parse
from ..model.portal import Family
from ..nftables.fields import pack_address

_ENDED: Final = frozenset({"Succeeded", "Failed"})
_ALWAYS: Final = "Always"

Key = tuple[str, str]
"""Namespace and name."""


class _Struct(msgspec.Struct, rename="camel", gc=False):
    """Base: unknown fields are skipped."""


class ContainerPort(_Struct):
    """A port that a container declares."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class Container(_Struct):
    """What of a container is needed."""

    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None


class PodSpec(_Struct):
    """What of ``spec`` is needed."""

    node_name: str = ""
    host_network: bool = False
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class PodIP(_Struct):
    """An address."""

    ip: str = ""


class PodStatus(_Struct):
    """What of ``status`` is needed."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIP] | None = msgspec.field(default=None, name="podIPs")


class PodObject(_Struct):
    """A v1 Pod."""

    metadata: objects.Meta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Namespace(_Struct):
    """A v1 Namespace."""

    metadata: objects.Meta


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod in the pod network that has an address and has not ended.

    Attributes:
        key: namespace and name.
        labels: of the pod.
        addresses: as in a packet, by family.
        ports: name, protocol and number of those that have a name.
        local: whether it is on this node.
        born: what tells which of two pods is the newer one.
    """

    key: Key
    labels: Mapping[str, str]
    addresses: Mapping[Family, bytes]
    ports: tuple[tuple[str, str, int], ...] = ()
    local: bool = False
    born: tuple[str, str] = ("", "")


def pod_of(one: PodObject, node: str) -> Pod | None:
    """Return what counts of a pod; None if no policy is about it.

    That is so for pods in the host's network, which are the node to others, for those that have no
    address yet, and for those that ended: another may have their address.
    """
    spec, status, meta = one.spec, one.status, one.metadata
    if spec.host_network or status.phase in _ENDED:
        return None
    texts = [each.ip for each in status.pod_ips or ()] or [status.pod_ip]
    addresses: dict[Family, bytes] = {}
    for text in texts:
        parsed = parse(text)
        if parsed is not None:
            addresses.setdefault(parsed[0], pack_address(parsed[1], parsed[0]))
    if not addresses:
        return None
    return Pod(
        (meta.namespace, meta.name), meta.labels or {}, addresses, _named_ports(spec),
        spec.node_name == node, (meta.creation_timestamp or "", meta.uid),
    )  # fmt: skip


def _named_ports(spec: PodSpec) -> tuple[tuple[str, str, int], ...]:
    """Return the ports with names; of two of a name and protocol the first counts, as in Services.

    Init containers count where they go on beside the others (KEP-753).
    """
    found: dict[tuple[str, str], int] = {}
    sidecars = [each for each in spec.init_containers or () if each.restart_policy == _ALWAYS]
    for container in (*(spec.containers or ()), *sidecars):
        for port in container.ports or ():
            if port.name:
                found.setdefault((port.name, port.protocol.lower()), port.container_port)
    return tuple((name, protocol, number) for (name, protocol), number in found.items())
