"""Devices by ResourceClaims, which this scheduler does not allocate."""

from __future__ import annotations

from typing import ClassVar

from ..statuses import Status
from .base import Attempt, Check, Plugin


class DynamicResources(Plugin):
    """Pods with ResourceClaims: no node does, since nobody here allocates their devices."""

    name: ClassVar[str] = "DynamicResources"

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod without claims."""
        if not attempt.pod.spec.get("resourceClaims"):
            return None
        return Status(self.name, ("this scheduler does not allocate devices of ResourceClaims",))
