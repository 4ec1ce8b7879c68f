"""What a machine is looked at for: the directories, ports and networks that are used then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Directory:
    """A directory that will be used.

    Attributes:
        path: it, or what will be made of it.
        overlay: images and containers are kept in it, so overlay mounts have their upper
            directories there, and programs are run from it.
        bytes_needed: less free space than this is of no use.
    """

    path: Path
    overlay: bool = False
    bytes_needed: int = 64 << 20


@dataclass(frozen=True)
class Port:
    """A port of the host that will be listened at.

    Attributes:
        number: it.
        user: what listens there, in words.
        protocol: ``tcp`` or ``udp``.
        remote: other machines of the cluster connect to it.
        setting: how another port is chosen; "" where it cannot.
    """

    number: int
    user: str
    protocol: str = "tcp"
    remote: bool = False
    setting: str = ""


@dataclass(frozen=True)
class Purpose:
    """What the machine shall be.

    Attributes:
        name: ``up``, ``node`` or ``server``.
        directories: what will be written to.
        ports: what will be listened at.
        installed: daemons are started by systemd, and stay over a reboot.
        joins: it is one of several machines.
        pod_networks: addresses of the pods, of all nodes.
        service_networks: addresses of Services.
        memory_needed: bytes of memory without which it does not work.
        memory_wanted: bytes below which it works, but holds few pods.
        api_server: URL of the API server whose clock ours is compared with; "" for none.
    """

    name: str
    directories: tuple[Directory, ...]
    ports: tuple[Port, ...]
    installed: bool
    joins: bool
    pod_networks: tuple[str, ...]
    service_networks: tuple[str, ...]
    memory_needed: int
    memory_wanted: int
    api_server: str = ""

    def asking(self, api_server: str) -> Purpose:
        """Return the same with an API server to compare the clock with."""
        return replace(self, api_server=api_server)


_PODS: Final = "10.244.0.0/16"
_SERVICES: Final = "10.96.0.0/12"
_PROXY_PORTS: Final = (
    Port(10256, "proxy, health checks of load balancers", remote=True),
    Port(10249, "proxy, metrics"),
)
_NODE_PORTS: Final = (
    Port(10250, "kubelet", remote=True, setting="port in /etc/kubeletpy/kubelet.yaml"),
    Port(10248, "kubelet, healthz", setting="healthzPort in /etc/kubeletpy/kubelet.yaml"),
    *_PROXY_PORTS,
    Port(4789, "pod network, VXLAN between nodes", "udp", remote=True),
)
_INSTALLED: Final = (
    Directory(Path("/var/lib/kubeletpy/runtime"), overlay=True, bytes_needed=512 << 20),
    Directory(Path("/var/lib/kubeletpy/kubelet")),
    Directory(Path("/var/log/pods")),
    Directory(Path("/etc/kubeletpy"), bytes_needed=1 << 20),
    Directory(Path("/run/kubeletpy"), bytes_needed=16 << 20),
)
UP: Final = Purpose(
    name="up",
    directories=(
        Directory(Path("/var/lib/kubeletpy/up"), overlay=True, bytes_needed=512 << 20),
        Directory(Path("/run/kubeletpy/up"), bytes_needed=16 << 20),
    ),
    ports=(
        Port(6443, "API server", setting="kubeletpy up --apiserver-port"),
        Port(5000, "registry of the example image", setting="kubeletpy up --registry-port"),
    ),
    installed=False,
    joins=False,
    pod_networks=("10.88.0.0/16", "fd88::/64"),
    service_networks=(_SERVICES,),
    memory_needed=256 << 20,
    memory_wanted=768 << 20,
)
NODE: Final = Purpose(
    name="node",
    directories=_INSTALLED,
    ports=_NODE_PORTS,
    installed=True,
    joins=True,
    pod_networks=(_PODS,),
    service_networks=(_SERVICES,),
    memory_needed=256 << 20,
    memory_wanted=512 << 20,
)
SERVER: Final = Purpose(
    name="server",
    directories=(*_INSTALLED, Directory(Path("/var/lib/kubeletpy/apiserver"))),
    ports=(Port(6443, "API server", remote=True), *_NODE_PORTS),
    installed=True,
    joins=True,
    pod_networks=(_PODS,),
    service_networks=(_SERVICES,),
    memory_needed=384 << 20,
    memory_wanted=1 << 30,
)
PURPOSES: Final = {purpose.name: purpose for purpose in (UP, NODE, SERVER)}
