"""Telling everybody who wants to know that a sync was asked for or ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .model.portal import Family
from .model.portals import Model
from .syncing import Outcome

if TYPE_CHECKING:
    from .conntrack.flows import Removed
    from .health.metrics import Metrics
    from .health.services import ServiceHealth
    from .health.state import Health


class Observers:
    """An `Observer` that passes on to health, metrics and the health checks of Services."""

    def __init__(self) -> None:
        self._told: tuple[Health, Metrics, ServiceHealth] | None = None
        self._model: Model | None = None
        self._families: tuple[Family, ...] = ()
        self._update: asyncio.Task[None] | None = None
        self._again = False

    def join(
        self,
        model: Model,
        families: tuple[Family, ...],
        health: Health,
        metrics: Metrics,
        services: ServiceHealth,
    ) -> None:
        """Set who is told from now on."""
        self._model, self._families = model, families
        self._told = (health, metrics, services)

    def queued(self, family: Family) -> None:
        """Something is to be synced."""
        if self._told is not None:
            self._told[0].queued(family)
            self._told[1].queued(family)

    def ended(self, family: Family, outcome: Outcome) -> None:
        """A sync ended."""
        if self._told is None or self._model is None:
            return
        health, metrics, _ = self._told
        metrics.ended(family, outcome)
        if outcome.synced is None:
            return
        health.updated(family)
        if not any(self._model.pending(each) for each in self._families):
            self._model.service_changes.clear()
            self._model.endpoint_changes.clear()
        self._refresh_services()

    def current(self, family: Family) -> None:
        """Rules were looked at and are right."""
        if self._told is not None:
            self._told[0].updated(family)

    def forgot(self, family: Family, removed: Removed) -> None:
        """Stale flows were looked for."""
        if self._told is not None:
            self._told[1].forgot(family, removed)

    def _refresh_services(self) -> None:
        """Bring health checks up to date in a task; what comes meanwhile is one more round."""
        if self._update is not None and not self._update.done():
            self._again = True
            return
        self._update = asyncio.create_task(self._refresh(), name="health checks of Services")

    async def _refresh(self) -> None:
        self._again = True
        while self._again and self._told is not None and self._model is not None:
            self._again = False
            await self._told[2].update(self._model.health_checks())

    async def close(self) -> None:
        """End what was begun."""
        if self._update is not None:
            self._update.cancel()
            await asyncio.gather(self._update, return_exceptions=True)
        if self._told is not None:
            await self._told[2].close()
