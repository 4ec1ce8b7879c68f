"""Services, EndpointSlices and Nodes: of each only the fields that a proxy needs.

Decoding leaves everything else out, so that an object costs its few fields and no more. What has
a field of a wrong type cannot be decoded: see `decode`.
"""

from __future__ import annotations

from typing import Any

import msgspec

LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
LABEL_HEADLESS = "service.kubernetes.io/headless"
LABEL_ZONE = "topology.kubernetes.io/zone"
ANNOTATION_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
EXCLUDE_PROXY_NAME = f"!{LABEL_PROXY_NAME}"
EXCLUDE_HEADLESS = f"!{LABEL_HEADLESS}"
"""Selectors of labels with which the peer lists and watches."""
NOT_HEADLESS = "spec.clusterIP!=None"
"""Its selector of fields, for Services."""


class _Struct(msgspec.Struct, rename="camel", gc=False):
    """Base: unknown fields are skipped."""


class Meta(_Struct):
    """What of ``metadata`` is needed."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    resource_version: str = ""
    uid: str = ""


class ServicePort(_Struct):
    """One port; the target is of no interest: slices have it, resolved."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class ClientIP(_Struct):
    """How long a client stays with its endpoint."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(_Struct):
    """See `ClientIP`."""

    client_ip: ClientIP | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(_Struct):
    """What of ``spec`` is needed."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ports: list[ServicePort] | None = None
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str = ""
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: int = 0


class Ingress(_Struct):
    """An address of a load balancer."""

    ip: str = ""
    ip_mode: str | None = None


class LoadBalancer(_Struct):
    """All of them."""

    ingress: list[Ingress] | None = None


class ServiceStatus(_Struct):
    """What of ``status`` is needed."""

    load_balancer: LoadBalancer = msgspec.field(default_factory=LoadBalancer)


class Service(_Struct):
    """A v1 Service."""

    metadata: Meta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class EndpointPort(_Struct):
    """One port; without a name or number it is of no use."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointConditions(_Struct):
    """None of ready or serving means true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Named(_Struct):
    """A zone or node of a hint."""

    name: str = ""


class Hints(_Struct):
    """For whom an endpoint is meant."""

    for_zones: list[Named] | None = None
    for_nodes: list[Named] | None = None


class SliceEndpoint(_Struct):
    """One endpoint; the first address is the one that counts."""

    addresses: list[str] | None = None
    conditions: EndpointConditions | None = None
    hints: Hints | None = None
    node_name: str | None = None


class EndpointSlice(_Struct):
    """A discovery.k8s.io/v1 EndpointSlice."""

    metadata: Meta
    address_type: str = ""
    endpoints: list[SliceEndpoint] | None = None
    ports: list[EndpointPort] | None = None


class Taint(_Struct):
    """A taint; only its key is needed."""

    key: str = ""


class NodeSpec(_Struct):
    """What of ``spec`` is needed."""

    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")
    taints: list[Taint] | None = None


class NodeAddress(_Struct):
    """An address of the node and what kind of."""

    type: str = ""
    address: str = ""


class NodeStatus(_Struct):
    """What of ``status`` is needed."""

    addresses: list[NodeAddress] | None = None


class Node(_Struct):
    """A v1 Node."""

    metadata: Meta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class ServiceCIDRSpec(_Struct):
    """Networks from which Services have their addresses."""

    cidrs: list[str] | None = None


class ServiceCIDR(_Struct):
    """A networking.k8s.io/v1 ServiceCIDR (KEP-1880)."""

    metadata: Meta
    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)


class Unreadable(Exception):
    """An object whose fields are of wrong types; the message says which."""


class _Identity(msgspec.Struct):
    """Only the name of an object, for messages about the rest of it."""

    metadata: Meta


def decode(kind: type[Any], data: bytes | msgspec.Raw) -> Any:
    """Return an object of JSON, as one of the structs here.

    Raises:
        Unreadable: a field of it has a wrong type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Unreadable(f"{kind.__name__}: {error}") from None


def name_of(data: bytes | msgspec.Raw) -> tuple[str, str]:
    """Return namespace and name of an object that cannot be decoded; "" where that fails too."""
    try:
        found = msgspec.json.decode(data, type=_Identity)
    except msgspec.DecodeError:
        return "", ""
    return found.metadata.namespace, found.metadata.name
