"""What the operator chooses about the default network, and what a pod gets from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

# Lower case, so that the chain's name, which is upper case by custom, is one bridge's alone;
# 15 bytes is the kernel's limit of an interface name (IFNAMSIZ).
_BRIDGE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,14}")
_SMALLEST_MTU_V6 = 1280  # RFC 8200, section 5
_SMALLEST_MTU_V4 = 68  # RFC 791, section 3.2
_LARGEST_MTU = 65535


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of one bridge; two runtimes on one machine need different ones throughout.

    Attributes:
        bridge: name of the bridge, at most 15 characters, lower case.
        subnet_v4: the pods' IPv4 network; its first address is the gateway.
        subnet_v6: the pods' IPv6 network, or None for IPv4 only.
        mtu: bytes; None takes it from the link of the default route.
        ipv6_required: whether a machine without IPv6 (or without ip6tables) is an error. By
            default it is not: ``subnet_v6`` has a default, so nobody asked for it by name, and
            pods are then given IPv4 alone, which one line of the log says.
        from_node: the subnets are those that the cluster gives the node (see ``node_ranges``);
            ``subnet_v4`` and ``subnet_v6`` do not count, and the MTU has room for VXLAN.
        no_masquerade: networks that pods reach with their own address: the pods of all nodes.
        node_file: where the daemon that routes between nodes says the MTU of pods.

    Raises:
        ValueError: a name or a network that cannot work.
    """

    bridge: str = "kubeletpy0"
    subnet_v4: str = "10.88.0.0/16"
    subnet_v6: str | None = "fd88::/64"
    mtu: int | None = None
    ipv6_required: bool = False
    from_node: bool = False
    no_masquerade: tuple[str, ...] = ()
    node_file: Path = Path("/run/kubeletpy/network/pod-network.json")

    def __post_init__(self) -> None:
        if not _BRIDGE_NAME.fullmatch(self.bridge):
            raise ValueError(
                f"bridge name {self.bridge!r} is not 1 to 15 of a-z, 0-9, '_', '.', '-', "
                "starting with a letter"
            )
        IPv4Network(self.subnet_v4)
        if self.subnet_v6 is None:
            if self.ipv6_required:
                raise ValueError("IPv6 is required, but there is no IPv6 subnet")
        else:
            IPv6Network(self.subnet_v6)
        for network in self.no_masquerade:
            ip_network(network)
        if self.mtu is not None:
            smallest = _SMALLEST_MTU_V4 if self.subnet_v6 is None else _SMALLEST_MTU_V6
            if not smallest <= self.mtu <= _LARGEST_MTU:
                raise ValueError(f"MTU {self.mtu} is not within {smallest} and {_LARGEST_MTU}")


@dataclass(frozen=True)
class Attachment:
    """How a pod hangs on the network.

    Attributes:
        ips: the pod's addresses without prefix length, IPv4 first.
        interface: the name of the link inside the pod.
        gateways: the next hop of each default route, in the order of ``ips``.
        host_interface: the name of the link's other end.
        mac: the hardware address of the pod's link.
        mtu: bytes.
    """

    ips: list[str]
    interface: str = "eth0"
    gateways: list[str] = field(default_factory=list)
    host_interface: str = ""
    mac: str = ""
    mtu: int = 0
