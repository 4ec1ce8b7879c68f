"""What a pod asks of its network, in the network's own terms (plain data and pure checks)."""

from __future__ import annotations

import enum
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

_PORTS = range(1, 65536)


class Protocol(enum.StrEnum):
    """The transport protocol of a port, by the name that netfilter has for it."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@dataclass(frozen=True)
class PortMapping:
    """A port of the node that leads to one of the pod.

    Attributes:
        protocol: of both ports.
        host_port: the node's.
        container_port: the pod's.
        host_ip: the node's address that the port is on; "" means all, ``0.0.0.0`` all of IPv4,
            ``::`` all of IPv6.

    Raises:
        ValueError: a port is none, or the address cannot be used.
    """

    protocol: Protocol
    host_port: int
    container_port: int
    host_ip: str = ""

    def __post_init__(self) -> None:
        for name, port in (("host", self.host_port), ("container", self.container_port)):
            if port not in _PORTS:
                raise ValueError(f"{name} port {port} is not within 1 and 65535")
        address = self.address
        if address is not None and (address.is_multicast or str(address) == "255.255.255.255"):
            raise ValueError(f"host IP {self.host_ip} is no address of one host")
        if isinstance(address, IPv6Address) and (address.is_loopback or address.scope_id):
            # There is no IPv6 counterpart of route_localnet: answers to ::1 find no way back.
            raise ValueError(
                f"host IP {self.host_ip}: the kernel cannot forward from there; use 127.0.0.1, or "
                "an address of the node that is valid beyond one link"
            )

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host IP; None for all addresses of both families."""
        return ip_address(self.host_ip) if self.host_ip else None

    @property
    def families(self) -> tuple[int, ...]:
        """AF_INET, AF_INET6, or both: those that the mapping is meant for."""
        address = self.address
        if address is None:
            return (socket.AF_INET, socket.AF_INET6)
        return (socket.AF_INET if address.version == 4 else socket.AF_INET6,)

    def __str__(self) -> str:
        where = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{where}:{self.host_port}/{self.protocol}"


def overlap(one: PortMapping, other: PortMapping) -> bool:
    """Tell whether a packet can be meant for both."""
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    if not set(one.families) & set(other.families):
        return False
    first, second = one.address, other.address
    if first is None or second is None or first.is_unspecified or second.is_unspecified:
        return True
    return first == second


def distinct(mappings: Sequence[PortMapping]) -> tuple[PortMapping, ...]:
    """Return ``mappings`` without exact doubles.

    Raises:
        ValueError: two of them contradict each other.
    """
    result: list[PortMapping] = []
    for mapping in dict.fromkeys(mappings):
        for earlier in result:
            if overlap(mapping, earlier) and mapping.container_port != earlier.container_port:
                raise ValueError(
                    f"host port {mapping} leads to container port {mapping.container_port}, and "
                    f"{earlier} to {earlier.container_port}: a port can lead to one only"
                )
        result.append(mapping)
    return tuple(result)


@dataclass(frozen=True)
class Bandwidth:
    """Limits of a pod's traffic in bits per second; 0 is none.

    Attributes:
        ingress: of what the pod receives.
        egress: of what it sends.
    """

    ingress: int = 0
    egress: int = 0


@dataclass(frozen=True)
class Dns:
    """The name service that the pod was told of."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class PodFacts:
    """Who a pod is and what it asks of its network.

    Attributes:
        name: the pod's.
        namespace: the pod's.
        uid: the pod's.
        ports: what the node is to forward.
        bandwidth: for CNI plugins.
        dns: for CNI plugins.
        cgroup: path of the pod's cgroup, for CNI plugins; "" if unknown.
    """

    name: str = ""
    namespace: str = ""
    uid: str = ""
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    dns: Dns = Dns()
    cgroup: str = ""

    @property
    def label(self) -> str:
        """``namespace/name``, or ""."""
        return f"{self.namespace}/{self.name}" if self.name else ""


NOTHING_SPECIAL = PodFacts()
"""A pod that nothing is known of and that asks for nothing beyond a link."""
