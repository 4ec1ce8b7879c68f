"""What the translation of pods has to know of the node; plain data, read once at the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubeletpy.api.quantity import Quantity
from kubeletpy.resources.policy import ResourcePolicy

_LARGEST_RESOLV_CONF = 10 * 1024 * 1024
DEFAULT_POD_LOGS = "/var/log/pods"


@dataclass(frozen=True, slots=True)
class Resolver:
    """The parts of a resolv.conf that pods inherit."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """The node as its pods see it.

    Attributes:
        name: the node's name (lower case).
        ips: its addresses, the primary one first.
        cpu_milli: capacity in thousandths of a CPU.
        memory_bytes: capacity; the base of OOM scores.
        allocatable: what pods may use together, by resource name; what ``limits.cpu``,
            ``limits.memory`` and ``limits.ephemeral-storage`` fall back to in the downward API.
        root_dir: ``--root-dir``.
        pod_logs: directory of the logs of all pods.
        cluster_dns: addresses of the cluster's DNS; empty standalone.
        cluster_domain: as ``cluster.local``; empty standalone.
        resolver: the node's resolv.conf; None for ``--resolv-conf=""`` (no DNS but localhost).
        seccomp_default: RuntimeDefault instead of Unconfined where a pod says nothing.
        cgroup_version: 1 or 2.
        hugepage_sizes: in bytes, those of the kernel.
        recursive_read_only: whether the runtime handler makes mounts recursively read-only.
        resources: how requests and limits become limits of the kernel.
    """

    name: str
    ips: tuple[str, ...] = ()
    cpu_milli: int = 0
    memory_bytes: int = 0
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)
    root_dir: Path = Path("/var/lib/kubelet")
    pod_logs: Path = Path(DEFAULT_POD_LOGS)
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = ""
    resolver: Resolver | None = field(default_factory=Resolver)
    seccomp_default: bool = False
    cgroup_version: int = 2
    hugepage_sizes: tuple[int, ...] = ()
    recursive_read_only: bool = False
    resources: ResourcePolicy = field(default_factory=ResourcePolicy)


def read_resolver(path: Path | str) -> Resolver | None:
    """Read a resolv.conf; None for the empty path.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than 10 MiB.
    """
    if not str(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(_LARGEST_RESOLV_CONF + 1)
    if len(text) > _LARGEST_RESOLV_CONF:
        raise ValueError(f"{path}: larger than {_LARGEST_RESOLV_CONF} bytes, not a resolv.conf")
    return parse_resolver(text.splitlines())


def parse_resolver(lines: Iterable[str]) -> Resolver:
    """Parse resolv.conf: nameservers add up, of ``search`` and ``options`` the last line wins."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in lines:
        fields = line.split()
        if len(fields) < 2 and fields[:1] != ["search"]:
            continue
        keyword, *values = fields
        if keyword == "nameserver":
            servers.append(values[0])
        elif keyword == "search":
            # With and without the final dot it is one domain; "." alone means no search.
            searches = tuple(value.rstrip(".") or "." for value in values)
        elif keyword == "options":
            options = tuple(values)
    return Resolver(tuple(servers), searches, options)
