"""autoscaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.autoscaling.autoscaler import HorizontalPodAutoscaler
from controlplane.kinds.strategies.autoscaling.first_version import FirstVersion

AUTOSCALING: Final[Mapping[str, Strategy]] = {
    "autoscaling/v1/horizontalpodautoscalers": FirstVersion(),
    "autoscaling/horizontalpodautoscalers": HorizontalPodAutoscaler(),
}
