"""Checks of writes besides those of the kinds themselves, in the order of Kubernetes.

Source: Kubernetes documentation, "Admission Control".
"""

from __future__ import annotations

from controlplane.admission.lifecycle import NamespaceLifecycle
from controlplane.plane import Plane


def install(plane: Plane) -> None:
    """Hook in the checks."""
    namespaces = NamespaceLifecycle(plane)
    plane.registry.admission += [namespaces]
    plane.registry.deletions += [namespaces]
