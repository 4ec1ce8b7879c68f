"""Facts of this machine, read once at the start."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import psutil

from kubeletpy.cri.node import NodeFacts, read_resolver

from .registration.addresses import default_addresses, node_addresses
from .registration.capacity import allocatable, capacity
from .registration.machine import read_machine
from .settings import ConfigurationError, Settings

_HUGEPAGES = Path("/sys/kernel/mm/hugepages")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def node_name(settings: Settings) -> str:
    """Return the node's name: the one set, or the host's; in lower case.

    Raises:
        ConfigurationError: it is not fit for an object's name.
    """
    name = (settings.node_name or os.uname().nodename).strip().lower()
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise ConfigurationError(
            f"node name {name!r} is not a DNS subdomain: set one by --hostname-override"
        )
    return name


def addresses(settings: Settings, name: str) -> tuple[str, ...]:
    """Return the node's addresses, the primary one first.

    As in Go, a node of a cluster has one, unless --node-ip names one of each family; standalone,
    pods get those of both default routes.

    Raises:
        ConfigurationError: a node of a cluster that has none.
    """
    if not settings.standalone:
        found = node_addresses(settings.node_ips, name)
        if not found:
            raise ConfigurationError(
                f"node {name} has no address: no default route; set one by --node-ip"
            )
        return found
    if settings.node_ips:
        return settings.node_ips
    return tuple(default_addresses().values()) or ("127.0.0.1",)


def hugepage_sizes(directory: Path = _HUGEPAGES) -> tuple[int, ...]:
    """Return the sizes of huge pages that the kernel offers, in bytes."""
    sizes = []
    if directory.is_dir():
        for entry in directory.iterdir():
            match = re.fullmatch(r"hugepages-(\d+)kB", entry.name)
            if match:
                sizes.append(int(match[1]) * 1024)
    return tuple(sorted(sizes))


def storage_bytes(root: Path) -> int:
    """Return the size of the file system that holds ``root``, which may not exist yet."""
    for directory in (root, *root.parents):
        try:
            status = os.statvfs(directory)
        except OSError:
            continue
        return status.f_blocks * status.f_frsize
    return 0


def node_facts(settings: Settings, *, cgroup_version: int) -> NodeFacts:
    """Return what the translation of pods has to know of the node.

    Raises:
        ConfigurationError: the node's name or resolv.conf cannot be taken.
    """
    try:
        resolver = read_resolver(settings.resolv_conf)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"resolv.conf {settings.resolv_conf!r} cannot be read: {error}; "
            'set another by resolvConf in --config, or "" for none'
        ) from None
    name = node_name(settings)
    cpus = psutil.cpu_count() or 1
    machine = replace(
        read_machine(settings.root_dir, cpus=cpus), storage=storage_bytes(settings.root_dir)
    )
    return NodeFacts(
        name=name,
        ips=addresses(settings, name),
        cpu_milli=cpus * 1000,
        memory_bytes=psutil.virtual_memory().total,
        allocatable=allocatable(capacity(machine, settings.configuration), settings),
        root_dir=settings.root_dir,
        pod_logs=settings.pod_logs_dir,
        cluster_dns=settings.cluster_dns,
        cluster_domain=settings.cluster_domain,
        resolver=resolver,
        seccomp_default=settings.seccomp_default,
        cgroup_version=cgroup_version,
        hugepage_sizes=hugepage_sizes(),
    )
