"""What the operator chooses about the network between nodes."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from ..errors import StartError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEVICE: Final = "kubeletpy-vx"
VNI: Final = 88
PORT: Final = 8472
"""What Linux and flannel use; the number of IANA is 4789."""
NODE_FILE: Final = Path("/run/kubeletpy/network/pod-network.json")
_DEVICE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
_LARGEST_VNI: Final = (1 << 24) - 1
_SMALLEST_MTU, _LARGEST_MTU = 1280, 65535


class Mode(enum.Enum):
    """How packets get to the pods of another node."""

    HOST_GW = "host-gw"
    """By the other node's address, which has to be on a network of this node."""
    VXLAN = "vxlan"
    """In UDP packets to the other node's address, wherever that is (RFC 7348)."""
    AUTO = "auto"
    """By its address where that is on a network of this node, else by VXLAN."""


@dataclass(frozen=True)
class Settings:
    """All of them.

    Attributes:
        cluster: networks of all pods; what a Node says beyond them does not count.
        mode: see `Mode`.
        vni, port: of VXLAN; the same on all nodes.
        mtu: of pods, bytes; 0 for what the uplink has room for.
        device: name of the VXLAN device.
        addresses: of this node for other nodes, instead of its InternalIPs.
        node_file: where the MTU is told to the runtime; None for nowhere.
    """

    cluster: tuple[Network, ...]
    mode: Mode = Mode.AUTO
    vni: int = VNI
    port: int = PORT
    mtu: int = 0
    device: str = DEVICE
    addresses: tuple[Address, ...] = ()
    node_file: Path | None = NODE_FILE


def settings_of(
    mode: str,
    cluster_cidrs: Sequence[str],
    *,
    vni: int = VNI,
    port: int = PORT,
    mtu: int = 0,
    device: str = DEVICE,
    addresses: Sequence[str] = (),
    node_file: Path | None = NODE_FILE,
) -> Settings:
    """Return checked settings.

    Raises:
        StartError: one cannot be; the message says which, and what would do.
    """
    if not cluster_cidrs:
        raise StartError(
            "--cluster-cidr is needed for the pod network: the networks of all pods, as the "
            "controller manager has them (such as 10.244.0.0/16); other networks that a Node "
            "claims are not routed"
        )
    for name, value, least, most in (
        ("vxlan-vni", vni, 1, _LARGEST_VNI), ("vxlan-port", port, 1, 65535),
    ):  # fmt: skip
        if not least <= value <= most:
            raise StartError(f"--{name} {value} is not within {least} and {most}")
    if mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        raise StartError(f"--mtu {mtu} is not 0 or within {_SMALLEST_MTU} and {_LARGEST_MTU}")
    if not _DEVICE_NAME.fullmatch(device):
        raise StartError(f"--vxlan-device {device!r} is no name of a network interface")
    try:
        return Settings(
            tuple(ip_network(each) for each in cluster_cidrs), Mode(mode), vni, port, mtu, device,
            tuple(ip_address(each) for each in addresses), node_file,
        )  # fmt: skip
    except ValueError as error:
        raise StartError(f"pod network: {error}") from None
