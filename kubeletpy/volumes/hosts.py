"""/etc/hosts of a pod, as the Go kubelet writes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kubeletpy.api.pod import HostAlias

_LARGEST_NODE_HOSTS = 1024 * 1024
_HEADER = "# Kubernetes-managed hosts file.\n"
_HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"
_STANDARD = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def pod_hosts(ips: Sequence[str], hostname: str, domain: str, aliases: Sequence[HostAlias]) -> str:
    """Return the file of a pod with addresses of its own (pure)."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    own = "".join(f"{ip}\t{names}\n" for ip in ips)
    return _HEADER + _STANDARD + own + _alias_lines(aliases)


def host_network_hosts(node_hosts: str, aliases: Sequence[HostAlias]) -> str:
    """Return the file of a pod in the node's network: the node's own, and aliases (pure)."""
    return _HOST_NETWORK_HEADER + node_hosts + _alias_lines(aliases)


def read_node_hosts(path: Path = Path("/etc/hosts")) -> str:
    """Return the node's file, at most 1 MiB of it.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_LARGEST_NODE_HOSTS)


def write_in_place(path: Path, content: str, mode: int) -> None:
    """Write a file that containers may have mounted: they see the new content.

    Raises:
        OSError: it cannot be written, or is a symbolic link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)


def _alias_lines(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = [f"{alias.ip}\t" + "\t".join(alias.hostnames) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
