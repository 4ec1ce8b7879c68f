"""Controllers without which the API alone is of little use; another controller manager may run
them instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from controlplane.builtin import cluster_info
from controlplane.builtin.event_ttl import EventTtl
from controlplane.builtin.furnishing import keep_accounts, keep_root_certificates
from controlplane.builtin.garbage.collector import Collector
from controlplane.builtin.namespaces.deleter import NamespaceDeleter
from controlplane.builtin.namespaces.finalize import serve_finalize
from controlplane.builtin.namespaces.initial import make_namespaces
from controlplane.builtin.protection import protect_claims, protect_volumes
from controlplane.builtin.quota_status import QuotaStatus
from controlplane.builtin.selection import (
    ACCOUNTS,
    CLAIM_PROTECTION,
    GARBAGE,
    NAMESPACES,
    QUOTAS,
    ROOT_CA,
    VOLUME_PROTECTION,
    selected,
)
from controlplane.plane import Background, Plane

_CONTROLLERS: Final[dict[str, Callable[[Plane], Background]]] = {
    NAMESPACES: lambda plane: NamespaceDeleter(plane).run,
    GARBAGE: lambda plane: Collector(plane).run,
    ACCOUNTS: keep_accounts,
    ROOT_CA: keep_root_certificates,
    QUOTAS: lambda plane: QuotaStatus(plane).run,
    CLAIM_PROTECTION: protect_claims,
    VOLUME_PROTECTION: protect_volumes,
}


def install(plane: Plane) -> None:
    """Hook in what the options choose.

    Raises:
        OptionsError: they name a controller that there is not.
    """
    plane.handlers["", "namespaces", "finalize"] = serve_finalize
    # Other starters put things into them.
    plane.starters.insert(0, partial(make_namespaces, plane))
    plane.starters.append(partial(cluster_info.publish, plane))
    plane.background.append(partial(cluster_info.keep, plane))
    chosen = selected(plane.options.controllers)
    # That is the server's own task in every cluster, and no controller's.
    plane.background.append(EventTtl(plane).run)
    plane.background += [make(plane) for name, make in _CONTROLLERS.items() if name in chosen]
