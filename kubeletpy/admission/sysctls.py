"""Which sysctls a pod may set on this node: the safe ones, and those of ``allowedUnsafeSysctls``.

https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from kubeletpy.affinity.errors import AdmissionError
from kubeletpy.api.pod import Pod
from kubeletpy_common.sysctls import SAFE_SYSCTLS

FORBIDDEN = "SysctlForbidden"


def dotted(name: str) -> str:
    """Return the name of a sysctl with dots between its parts (pure).

    sysctl(8) takes both ways: the first of ``.`` and ``/`` is what separates, the other one stands
    for itself (``net/ipv4/conf/eth0.1/forwarding``).
    """
    first = next((character for character in name if character in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def forbidden(pod: Pod, allowed: Sequence[str]) -> AdmissionError | None:
    """Return why a pod may not have the sysctls that it asks for (pure).

    Args:
        pod: that comes to the node.
        allowed: unsafe ones that the operator allows; a trailing ``*`` stands for any rest.
    """
    context = pod.spec.security_context
    for sysctl in context.sysctls if context is not None else ():
        name = dotted(sysctl.name)
        problem = ""
        if not _listed(name, allowed):
            problem = f'"{name}" not allowlisted'
        elif name.startswith("net."):
            problem = _of_host("Net", name) if pod.spec.host_network else ""
        elif pod.spec.host_ipc:
            problem = _of_host("IPC", name)
        if problem:
            return AdmissionError(FORBIDDEN, f"forbidden sysctl: {problem}")
    return None


def _of_host(namespace: str, name: str) -> str:
    return f'"{name}" not allowed with host {namespace} enabled'


def _listed(name: str, allowed: Sequence[str]) -> bool:
    if name in SAFE_SYSCTLS:
        return True
    for given in allowed:
        pattern = dotted(given)
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return True
    return False


def admitter(
    allowed: Sequence[str],
) -> Callable[[Pod], Coroutine[Any, Any, AdmissionError | None]]:
    """Return what looks at the sysctls of pods, for `Core.admitters`."""

    async def admit(pod: Pod) -> AdmissionError | None:
        return forbidden(pod, allowed)

    return admit
