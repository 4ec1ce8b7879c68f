"""What is special about each kind, by ``group/plural``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.core import CORE
from controlplane.kinds.strategies.namespaces import NAMESPACES
from controlplane.kinds.strategies.pods import PODS
from controlplane.kinds.strategies.rbac import RBAC

STRATEGIES: Final[Mapping[str, Strategy]] = {**CORE, **NAMESPACES, **PODS, **RBAC}
