"""Which pods are critical: they are admitted first, and evicted last or never (pure)."""

from __future__ import annotations

from kubeletpy.api.pod import Pod

SYSTEM_CRITICAL = 2_000_000_000
"""Priority from which on a pod is one of the system's (scheduling.SystemCriticalPriority)."""
_SOURCE, _MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"


def is_static(pod: Pod) -> bool:
    """Whether a pod comes from the node itself, not from an API server."""
    return pod.metadata.annotations.get(_SOURCE, "api") != "api"


def is_critical(pod: Pod) -> bool:
    """Whether a pod is static, the mirror of a static one, or of a system priority."""
    if is_static(pod) or _MIRROR in pod.metadata.annotations:
        return True
    return (pod.spec.priority or 0) >= SYSTEM_CRITICAL
