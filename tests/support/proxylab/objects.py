"""Makes Services, EndpointSlices and Nodes as a control plane would hold them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .topology import FAMILIES, NODE_CIDRS, pod_address, service_address, wire_address

Json = dict[str, Any]
NAMESPACE = "lab"
NODES = {"node": "lab-node", "neighbour": "lab-neighbour"}
ZONES = {"node": "a", "neighbour": "b"}
PORT = 8080
"""What endpoints listen on, unless a case says otherwise."""
OTHER_PORT = 9090


@dataclass(frozen=True)
class Backend:
    """One endpoint.

    Attributes:
        host: the pod; ``local`` and ``remote`` have many addresses, ``self`` one.
        index: which of its addresses.
        ready, serving, terminating: conditions.
        zones, nodes: hints; None for no hints.
    """

    host: str
    index: int = 0
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The host it is on."""
        return "neighbour" if self.host in ("remote", "far") else "node"

    def address(self, family: int) -> str:
        """Return its address."""
        return pod_address(self.host, family, self.index)

    def answers(self, family: int, port: int = PORT) -> str:
        """Return what it says it is."""
        return f"{self.address(family)}:{port}"


def ending(backend: Backend, *, serving: bool = True) -> Backend:
    """Return the same endpoint, terminating."""
    return Backend(backend.host, backend.index, False, serving, True)


LOCAL = tuple(Backend("local", index) for index in range(24))
REMOTE = tuple(Backend("remote", index) for index in range(24))
ITSELF = Backend("self")


@dataclass(frozen=True)
class Port:
    """One port of a Service; ``target`` is where endpoints listen."""

    port: int = 80
    target: int = PORT
    protocol: str = "TCP"
    name: str = ""
    node_port: int = 0

    def of_service(self) -> Json:
        """Return the entry of ``spec.ports``."""
        made: Json = {"port": self.port, "targetPort": self.target, "protocol": self.protocol}
        if self.name:
            made["name"] = self.name
        if self.node_port:
            made["nodePort"] = self.node_port
        return made

    def of_slice(self) -> Json:
        """Return the entry of ``ports``."""
        return {"name": self.name, "port": self.target, "protocol": self.protocol}


_numbers = itertools.count(1)


def service(
    name: str,
    ports: Sequence[Port] = (Port(),),
    *,
    number: int = 0,
    families: Sequence[int] = FAMILIES,
    ingress: Sequence[Mapping[str, str]] | None = None,
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> Json:
    """Return a Service.

    Args:
        name: in the namespace of the lab.
        ports: of it.
        number: of the cluster IP; 0: the next free one.
        families: of the cluster IPs.
        ingress: of ``status.loadBalancer``; makes it a LoadBalancer.
        labels: of its metadata.
        spec: whatever else there is in ``spec``.
    """
    number = number or next(_numbers)
    addresses = [service_address(number, family) for family in families]
    kind = "NodePort" if any(port.node_port for port in ports) else "ClusterIP"
    if ingress is not None:
        kind = "LoadBalancer"
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": metadata(name, labels or {}),
        "spec": {
            "type": kind,
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": [f"IPv{family}" for family in families],
            "ipFamilyPolicy": "PreferDualStack" if len(families) > 1 else "SingleStack",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            **({} if kind == "ClusterIP" else {"externalTrafficPolicy": "Cluster"}),
            "ports": [port.of_service() for port in ports],
            **spec,
        },
        "status": {"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    }


def slices(
    name: str,
    backends: Iterable[Backend],
    ports: Sequence[Port] = (Port(),),
    *,
    families: Sequence[int] = FAMILIES,
    part: str = "",
    labels: Mapping[str, str] | None = None,
) -> list[Json]:
    """Return the EndpointSlices of a Service, one for each family."""
    backends = list(backends)
    return [
        {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": metadata(
                f"{name}-v{family}{part}",
                {"kubernetes.io/service-name": name, **(labels or {})},
            ),
            "addressType": f"IPv{family}",
            "endpoints": [_endpoint(each, family) for each in backends],
            "ports": [port.of_slice() for port in ports],
        }
        for family in families
    ]


def _endpoint(backend: Backend, family: int) -> Json:
    made: Json = {
        "addresses": [backend.address(family)],
        "conditions": {
            "ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating,
        },
        "nodeName": NODES[backend.node],
        "zone": ZONES[backend.node],
    }  # fmt: skip
    hints: Json = {}
    if backend.zones:
        hints["forZones"] = [{"name": zone} for zone in backend.zones]
    if backend.nodes:
        hints["forNodes"] = [{"name": NODES[node]} for node in backend.nodes]
    return made | ({"hints": hints} if hints else {})


def node(host: str = "node", **more: Any) -> Json:
    """Return the Node of a host of the lab."""
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": NODES[host],
            "uid": f"uid-of-{host}",
            "labels": {
                "kubernetes.io/hostname": NODES[host],
                "topology.kubernetes.io/zone": ZONES[host],
            },
        },
        "spec": {"podCIDR": NODE_CIDRS[4], "podCIDRs": list(NODE_CIDRS.values()), **more},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": wire_address(host, family)} for family in FAMILIES
            ]
        },
    }


def metadata(name: str, labels: Mapping[str, str]) -> Json:
    """Return the metadata of an object in the namespace of the lab."""
    return {
        "name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}", "labels": dict(labels),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
