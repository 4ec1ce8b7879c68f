"""In which order discovery tells groups and versions (pure).

Source: the ``spec`` of the APIServices that a Kubernetes 1.36 server keeps of its own groups.
"""

from __future__ import annotations

from typing import Final

CUSTOM: Final = (1000, 100)
"""Of the group and the version of a custom resource."""

_GROUPS: Final = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400,
    "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
}  # fmt: skip
_VERSIONS: Final = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("resource.k8s.io", "v1"): 21,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}  # fmt: skip
_STAGES: Final = {"beta": 9, "alpha": 1}
_STABLE: Final = 15
_OWN: Final = "apiregistration.k8s.io"


def is_builtin(group: str) -> bool:
    """Whether a group is one of Kubernetes itself."""
    return group in _GROUPS or group == _OWN


def priority_of(group: str, version: str) -> tuple[int, int]:
    """Return the priorities of a group and of a version in it."""
    if group == _OWN:
        return 20000, _STABLE
    if group not in _GROUPS:
        return CUSTOM
    stage = next((number for name, number in _STAGES.items() if name in version), _STABLE)
    return _GROUPS[group], _VERSIONS.get((group, version), stage)
