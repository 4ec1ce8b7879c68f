"""Whom a request goes on to (pure).

Source: Kubernetes documentation, "Access Services Running on Clusters" and "Communication between
Nodes and the Control Plane"; the API reference of ``pods/log``, ``pods/exec`` and ``proxy``.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.api.errors import ApiError, bad_request
from controlplane.api.resource import Object

KUBELET_PORT: Final = 10250
_SCHEMES: Final = ("", "http", "https")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: name or IP address, without brackets.
        port: TCP port; 0: that of the scheme.
        kubelet: it is one, to which we show who we are.
        server_name: that its certificate must hold; "": the host.
    """

    scheme: str
    host: str
    port: int
    kubelet: bool = False
    server_name: str = ""

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def url(self) -> str:
        """The beginning of its URLs."""
        return f"{self.scheme}://{self.authority}"

    @property
    def tcp_port(self) -> int:
        """The port that is connected to."""
        return self.port or (443 if self.scheme == "https" else 80)


@dataclass(frozen=True, slots=True)
class Named:
    """A name of the form ``name``, ``name:port`` or ``scheme:name:port``."""

    scheme: str
    name: str
    port: str


def split_name(text: str, kind: str) -> Named:
    """Take apart the name of a request for a proxy.

    Args:
        text: in the path.
        kind: for the error: ``pod``, ``service`` or ``node``.

    Raises:
        ApiError: it is not of that form.
    """
    parts = text.split(":")
    if len(parts) == 1:
        named = Named("", parts[0], "")
    elif len(parts) == 2:
        named = Named("", parts[0], parts[1])
    elif len(parts) == 3:
        named = Named(*parts)
    else:
        named = Named("", "", "")
    if not named.name or named.scheme not in _SCHEMES:
        raise bad_request(f'invalid {kind} request "{text}"')
    return named


def container_of(pod: Object, asked: str) -> str:
    """Return the container that a request for a pod is for.

    Args:
        pod: the pod.
        asked: name in the request; "" for none.

    Raises:
        ApiError: there is none of that name, or several to choose from.
    """
    spec, name = pod["spec"], pod["metadata"]["name"]
    kinds = ("initContainers", "containers", "ephemeralContainers")
    known = [one["name"] for kind in kinds for one in spec.get(kind, [])]
    if asked:
        if asked not in known:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    containers = spec.get("containers", [])
    if len(containers) == 1:
        return str(containers[0]["name"])
    text = f"a container name must be specified for pod {name}"
    raise bad_request(f"{text}, choose one of: [{' '.join(known)}]" if containers else text)


def kubelet_of(node: Object, preferred: Iterable[str]) -> Target:
    """Return the kubelet of a node, as the node's status tells it.

    Args:
        node: the node.
        preferred: kinds of addresses, the best first.

    Raises:
        ApiError: it has no address of these kinds.
    """
    status = node.get("status", {})
    addresses = status.get("addresses", [])
    port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
    for kind in preferred:
        for address in addresses:
            if address.get("type") == kind and address.get("address"):
                return Target("https", address["address"], port or KUBELET_PORT, kubelet=True)
    known = " ".join(f"{one.get('type')}={one.get('address')}" for one in addresses)
    raise ApiError(
        "InternalError",
        f"node {node['metadata']['name']}: no preferred addresses found; known addresses: "
        f"[{known}]: see --kubelet-preferred-address-types",
    )


def pod_target(pod: Object, named: Named) -> Target:
    """Return what ``pods/proxy`` connects to: a port that is asked for, or the first that is told.

    Raises:
        ApiError: the pod has no address that may be connected to, or the port is none.
    """
    port = named.port
    if not port:
        listed = [
            str(one["containerPort"])
            for container in pod["spec"].get("containers", [])
            for one in container.get("ports", [])[:1]
        ]
        port = listed[0] if listed else ""
    status = pod.get("status", {})
    addresses = [one.get("ip", "") for one in status.get("podIPs", [])] or [status.get("podIP", "")]
    require_reachable(addresses[0])
    return Target(named.scheme or "http", addresses[0], port_number(port))


def service_target(service: Object, endpoints: Object | None, named: Named, text: str) -> Target:
    """Return one of a service's ready endpoints, by chance.

    Args:
        service: the service.
        endpoints: of it; None if there are none.
        named: what is asked for; the port by number or name.
        text: the name as it is asked for, for errors.

    Raises:
        ApiError: there is none, or its address may not be connected to.
    """
    port, name = named.port, named.name
    if port.isdecimal():
        found = [one for one in service["spec"].get("ports", []) if one["port"] == int(port)]
        if not found:
            raise ApiError(
                "ServiceUnavailable", f'no service port {port} found for service "{name}"'
            )
        port = found[0].get("name", "")
    subsets = (endpoints or {}).get("subsets", [])
    if not subsets:
        raise ApiError("ServiceUnavailable", f'no endpoints available for service "{name}"')
    ready = [
        (address, one["port"])
        for subset in subsets
        for one in subset.get("ports", [])
        if one.get("name", "") == port
        for address in subset.get("addresses", [])
        if _is_of_pod(address, service)
    ]
    if not ready:
        raise ApiError("ServiceUnavailable", f'no endpoints available for service "{text}"')
    chosen, number = random.choice(ready)
    require_reachable(chosen["ip"])
    return Target(named.scheme or "http", chosen["ip"], number)


def require_reachable(address: str) -> None:
    """Refuse addresses that are this machine's own, or no host's at all.

    Who may write the status of a pod or a node could have us talk to what listens on loopback only.

    Raises:
        ApiError: it is not a global unicast address (RFC 4291, section 2.4; RFC 1122, 3.2.1.3).
    """
    try:
        ip: Any = ipaddress.ip_address(address)
    except ValueError:
        raise bad_request("address not allowed") from None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local or ip == _ALL:
        raise bad_request("address not allowed")


_ALL: Final = ipaddress.ip_address("255.255.255.255")


def port_number(text: str) -> int:
    """Return a TCP port, 0 for "".

    Raises:
        ApiError: it is none.
    """
    if not text:
        return 0
    if not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise bad_request(f"the port {text[:40]!r} is no number from 1 to 65535")
    return int(text)


def _is_of_pod(address: Object, service: Object) -> bool:
    """Say whether an endpoint is a pod of the service's namespace; others are not gone to."""
    reference = address.get("targetRef", {})
    return bool(
        reference.get("kind") == "Pod"
        and reference.get("namespace") == service["metadata"]["namespace"]
    )
