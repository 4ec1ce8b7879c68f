"""v1 Pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.pods.strategy import PodStrategy

PODS: Final[Mapping[str, Strategy]] = {"/pods": PodStrategy()}
"""What is special about pods."""
