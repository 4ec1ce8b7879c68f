"""What is special about each kind, by ``group/plural``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.apiextensions import APIEXTENSIONS
from controlplane.kinds.strategies.apiregistration import APIREGISTRATION
from controlplane.kinds.strategies.apps import APPS
from controlplane.kinds.strategies.autoscaling import AUTOSCALING
from controlplane.kinds.strategies.batch import BATCH
from controlplane.kinds.strategies.core import CORE
from controlplane.kinds.strategies.namespaces import NAMESPACES
from controlplane.kinds.strategies.networking import NETWORKING
from controlplane.kinds.strategies.pods import PODS
from controlplane.kinds.strategies.policy import POLICY
from controlplane.kinds.strategies.rbac import RBAC
from controlplane.kinds.strategies.scheduling import SCHEDULING
from controlplane.kinds.strategies.storage import STORAGE

STRATEGIES: Final[Mapping[str, Strategy]] = {
    **APIEXTENSIONS,
    **APIREGISTRATION,
    **APPS,
    **AUTOSCALING,
    **BATCH,
    **CORE,
    **NAMESPACES,
    **NETWORKING,
    **PODS,
    **POLICY,
    **RBAC,
    **SCHEDULING,
    **STORAGE,
}
