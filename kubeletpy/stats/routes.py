"""Paths of what is measured."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from kubeletpy.core import Core
from kubeletpy.cri.client import CriError
from kubeletpy.registration.machine import read_machine

from .cadvisor import CadvisorMetrics
from .collector import Collector
from .exposition import CONTENT_TYPE
from .node import Filesystem
from .resource_metrics import resource_metrics
from .summary import Summary, claim_of
from .volumes import VolumeMeasures


class StatsRoutes:
    """Answers ``/stats/summary``, ``/metrics/resource`` and ``/metrics/cadvisor``.

    Args:
        core: the kubelet's parts.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._collector = Collector(core)
        self._measures = VolumeMeasures(core, self._collector)
        self._summary = Summary(core, self._collector, self._measures)
        self._cadvisor: CadvisorMetrics | None = None

    def add(self, application: web.Application) -> None:
        """Add the paths."""
        router = application.router
        router.add_get("/stats/summary", self._summarize)
        router.add_post("/stats/summary", self._summarize)
        router.add_get("/metrics/resource", self._resources)
        router.add_get("/metrics/cadvisor", self._containers)

    async def claims(self) -> list[tuple[str, str, Filesystem]]:
        """Return namespace, name and file system of each claim that is mounted here."""
        found: dict[tuple[str, str], Filesystem] = {}
        for pod in self._core.manager.pods():
            for volume in pod.spec.volumes:
                claim = claim_of(pod.metadata.name, volume)
                if not claim:
                    continue
                amount = await self._measures.measure(pod.metadata.uid, volume)
                if amount is not None:
                    found[pod.metadata.namespace, claim] = amount
        return [(*key, amount) for key, amount in found.items()]

    async def _summarize(self, request: web.Request) -> web.StreamResponse:
        only = request.query.get("only_cpu_and_memory") == "true"
        try:
            summary = await self._summary.make(only_cpu_and_memory=only)
        except (CriError, OSError) as error:
            return web.Response(status=500, text=f"Internal Error: {error}")
        body = await asyncio.to_thread(lambda: json.dumps(summary).encode())
        return web.Response(body=body, content_type="application/json")

    async def _resources(self, _: web.Request) -> web.StreamResponse:
        try:
            measured = await self._collector.measured()
        except (CriError, OSError):
            measured = None
        pods = {pod.metadata.uid: pod for pod in self._core.manager.pods()}
        return _text(resource_metrics(measured, pods))

    async def _containers(self, _: web.Request) -> web.StreamResponse:
        if self._cadvisor is None:
            cpus = max(1, self._core.facts.cpu_milli // 1000)
            machine = read_machine(self._core.facts.root_dir, cpus=cpus)
            self._cadvisor = CadvisorMetrics(self._core, self._collector, machine)
        return _text(await self._cadvisor.text())


def _text(body: str) -> web.Response:
    return web.Response(body=body.encode(), headers={"Content-Type": CONTENT_TYPE})
