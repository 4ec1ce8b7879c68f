"""autoscaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.autoscaling.autoscaler import HorizontalPodAutoscaler

AUTOSCALING: Final[Mapping[str, Strategy]] = {
    "autoscaling/horizontalpodautoscalers": HorizontalPodAutoscaler(),
}
