"""What is done with pods besides reading and writing them: binding and eviction."""

from __future__ import annotations

from controlplane.plane import Plane
from controlplane.pods.admission import QualityClass
from controlplane.pods.binding import bind
from controlplane.pods.eviction import evict


def install(plane: Plane) -> None:
    """Hook the subresources in, and what is last to be known of a new pod."""
    plane.handlers["", "pods", "binding"] = bind
    plane.handlers["", "bindings", ""] = bind
    plane.handlers["", "pods", "eviction"] = evict
    plane.registry.admission.append(QualityClass())
