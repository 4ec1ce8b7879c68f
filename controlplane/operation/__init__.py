"""What whoever runs the server needs: bounds on requests, metrics, and whether it is well.

:mod:`.limits` bounds how many requests run and how long, :mod:`.metrics` counts them,
:mod:`.health` answers ``/livez``, ``/readyz`` and ``/healthz``.
"""

from __future__ import annotations

from controlplane.operation.health import install_health
from controlplane.operation.limits import Limits
from controlplane.operation.metrics import install_metrics
from controlplane.plane import Plane


def install(plane: Plane) -> None:
    """Hook in before all others: what is refused here costs nothing further on."""
    limits = Limits(
        plane.options.request_timeout,
        plane.options.max_requests_inflight,
        plane.options.max_mutating_inflight,
    )
    install_metrics(plane, limits)
    plane.middlewares.append(limits.bound)
    install_health(plane)
