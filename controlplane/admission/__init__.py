"""Checks of writes besides those of the kinds themselves, in the order of Kubernetes.

Source: Kubernetes documentation, "Admission Control".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from controlplane.admission.classes import ClaimResize, DefaultClasses, InUseProtection
from controlplane.admission.lifecycle import NamespaceLifecycle
from controlplane.admission.limits import LimitChecks, LimitDefaults
from controlplane.admission.pod_security.plugin import PodSecurity
from controlplane.admission.priorities import Priority, make_system_classes
from controlplane.admission.quotas.plugin import ResourceQuotas
from controlplane.admission.runtime_classes import RuntimeClasses
from controlplane.admission.service_accounts import ServiceAccounts
from controlplane.admission.tolerations import DefaultTolerationSeconds, TaintNodesByCondition
from controlplane.api.resource import Admission
from controlplane.plane import Plane

# Those that change what is written come first, each after what it builds on.
_CHANGING: Final[dict[str, Callable[[Plane], Admission]]] = {
    "LimitRanger": LimitDefaults,
    "ServiceAccount": ServiceAccounts,
    "TaintNodesByCondition": lambda _: TaintNodesByCondition(),
    "Priority": Priority,
    "DefaultTolerationSeconds": lambda _: DefaultTolerationSeconds(),
    "DefaultStorageClass": lambda plane: DefaultClasses(plane, "", "persistentvolumeclaims"),
    "StorageObjectInUseProtection": lambda _: InUseProtection(),
    "RuntimeClass": RuntimeClasses,
    "DefaultIngressClass": lambda plane: DefaultClasses(plane, "networking.k8s.io", "ingresses"),
}
# The quota comes last: what another check refuses uses nothing.
_CHECKING: Final[dict[str, Callable[[Plane], Admission]]] = {
    "LimitRanger": LimitChecks,
    "PodSecurity": PodSecurity,
    "PersistentVolumeClaimResize": ClaimResize,
    "ResourceQuota": ResourceQuotas,
}


def install(plane: Plane) -> None:
    """Hook in the checks."""
    namespaces = NamespaceLifecycle(plane)
    registry = plane.registry
    registry.deletions.append(namespaces)
    registry.admission += [namespaces, *(make(plane) for make in _CHANGING.values())]
    registry.reviews += [make(plane) for make in _CHECKING.values()]
    plane.starters.append(partial(make_system_classes, plane))
