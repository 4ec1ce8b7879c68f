"""Nodes, services and their endpoints, configuration, events, quotas, requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.core.certificates import SigningRequestStrategy
from controlplane.kinds.strategies.core.configs import (
    ConfigMapStrategy,
    SecretStrategy,
    ServiceAccountStrategy,
)
from controlplane.kinds.strategies.core.endpoints import EndpointSliceStrategy, EndpointsStrategy
from controlplane.kinds.strategies.core.events import EventStrategy, NewEventStrategy
from controlplane.kinds.strategies.core.nodes import NodeStrategy
from controlplane.kinds.strategies.core.quotas import LimitRangeStrategy, ResourceQuotaStrategy
from controlplane.kinds.strategies.core.services import ServiceStrategy

CORE: Final[Mapping[str, Strategy]] = {
    "/configmaps": ConfigMapStrategy(),
    "/endpoints": EndpointsStrategy(),
    "/events": EventStrategy(),
    "/limitranges": LimitRangeStrategy(),
    "/nodes": NodeStrategy(),
    "/resourcequotas": ResourceQuotaStrategy(),
    "/secrets": SecretStrategy(),
    "/serviceaccounts": ServiceAccountStrategy(),
    "/services": ServiceStrategy(),
    "certificates.k8s.io/certificatesigningrequests": SigningRequestStrategy(),
    "discovery.k8s.io/endpointslices": EndpointSliceStrategy(),
    "events.k8s.io/events": NewEventStrategy(),
}
