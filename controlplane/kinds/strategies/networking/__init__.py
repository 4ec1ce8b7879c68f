"""networking.k8s.io."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.networking.addresses import IPAddress, ServiceCIDR
from controlplane.kinds.strategies.networking.ingress import Ingress, IngressClass
from controlplane.kinds.strategies.networking.policies import NetworkPolicy

NETWORKING: Final[Mapping[str, Strategy]] = {
    "networking.k8s.io/ingressclasses": IngressClass(),
    "networking.k8s.io/ingresses": Ingress(),
    "networking.k8s.io/ipaddresses": IPAddress(),
    "networking.k8s.io/networkpolicies": NetworkPolicy(),
    "networking.k8s.io/servicecidrs": ServiceCIDR(),
}
