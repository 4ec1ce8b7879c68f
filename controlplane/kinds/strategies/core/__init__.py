"""Namespaces, nodes, services and their endpoints, configuration, events, roles, quotas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.core.services import ServiceStrategy

CORE: Final[Mapping[str, Strategy]] = {
    "/services": ServiceStrategy(),
}
