"""Which sysctls a pod may set (pure).

A sysctl is set inside the pod's namespaces; one that belongs to none would change the host. So the
list of namespaced names is closed, a name or value with odd characters is refused before it could
become a path or a second setting (CVE-2022-0811), and a name whose namespace is the host's in this
pod is refused as well (CVE-2022-0532, CVE-2023-6476).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from kubeletpy_common.sysctls import SAFE_SYSCTLS

# ipc_namespaces(7): System V IPC and POSIX message queues.
_IPC: Final = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)
_NAME: Final = re.compile(r"[a-z0-9_-]+([./][a-zA-Z0-9_.-]+)+")
_VALUE: Final = re.compile(r"[ -~\t]{1,1024}")


class SysctlError(ValueError):
    """A sysctl is malformed, not namespaced, or not allowed."""


def check_sysctls(
    sysctls: Mapping[str, str],
    *,
    own_network: bool,
    own_ipc: bool,
    allowed_unsafe: Sequence[str] | None = None,
) -> dict[str, str]:
    """Return the sysctls, names with dots, once each is known to be harmless to the host.

    Args:
        sysctls: as the client gave them.
        own_network: the pod has a network namespace of its own.
        own_ipc: likewise for IPC.
        allowed_unsafe: names beyond the safe set; a trailing ``*`` stands for any rest. None: all;
            which of them a pod may set is for the client to say, as with containerd.

    Raises:
        SysctlError: naming the sysctl and the reason.
    """
    checked: dict[str, str] = {}
    for given, value in sysctls.items():
        if not _NAME.fullmatch(given) or ".." in given:
            raise SysctlError(f"sysctl name {given!r} is malformed")
        # Both ways of sysctl(8): what stands first separates. Slashes first: dots are literal.
        first = next(character for character in given if character in "./")
        name = given if first == "." else given.translate(str.maketrans("./", "/."))
        if not _VALUE.fullmatch(value):
            raise SysctlError(f"value {value[:80]!r} of sysctl {name} is not one line of text")
        _check_namespace(name, own_network=own_network, own_ipc=own_ipc)
        narrowed = allowed_unsafe is not None and not _allowed(name, allowed_unsafe)
        if name not in SAFE_SYSCTLS and narrowed:
            raise SysctlError(
                f"sysctl {name} is not in Kubernetes' safe list; the operator can allow it under "
                "[sysctls] allowed_unsafe"
            )
        checked[name] = value
    return checked


def default_sysctls(
    *, own_network: bool, unprivileged_ports: bool, unprivileged_icmp: bool
) -> dict[str, str]:
    """Return what a pod with an own network gets unasked, as with containerd."""
    result: dict[str, str] = {}
    if own_network and unprivileged_ports:
        result["net.ipv4.ip_unprivileged_port_start"] = "0"
    if own_network and unprivileged_icmp:
        result["net.ipv4.ping_group_range"] = "0 2147483647"
    return result


def _check_namespace(name: str, *, own_network: bool, own_ipc: bool) -> None:
    if name.startswith("net."):
        if not own_network:
            raise SysctlError(f"sysctl {name} would change the host: the pod uses its network")
    elif name in _IPC or name.startswith("fs.mqueue."):
        if not own_ipc:
            raise SysctlError(f"sysctl {name} would change the host: the pod uses its IPC")
    else:
        raise SysctlError(f"sysctl {name} belongs to no namespace: it would change the host")


def _allowed(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
