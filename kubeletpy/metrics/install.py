"""Counts what the kubelet does, and serves the counts."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as Collecting

from kubeletpy.api.container import Container
from kubeletpy.api.events import Event
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.certificates.renewal import SERVER_PREFIX
from kubeletpy.certificates.store import CertificateStore
from kubeletpy.core import Core
from kubeletpy.probes.checks import Result
from kubeletpy.probes.worker import Kind
from kubeletpy.stats.exposition import CONTENT_TYPE as _TEXT
from kubeletpy.stats.exposition import Families, written
from kubeletpy.stats.node import Filesystem

from .ends import Ends
from .instruments import Instruments, operation_type
from .node_instruments import CertificateLives
from .starts import Starts

VERSION = "v1.36.2"
_METHODS = frozenset(("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"))
_PATHS = frozenset(
    """healthz pods stats metrics metrics/cadvisor metrics/probes metrics/resource metrics/slis run
    exec attach portForward containerLogs configz runningpods logs checkpoint debug""".split()
)
_LONG = frozenset(("exec", "attach", "portforward", "debug"))
_KINDS = {"initContainers": "init_container", "ephemeralContainers": "ephemeral_container"}


class KubeletMetrics:
    """The kubelet's metrics.

    Args:
        core: the kubelet's parts.
        claims: returns namespace, name and file system of the claims that are mounted.
    """

    def __init__(
        self, core: Core, claims: Callable[[], Awaitable[list[tuple[str, str, Filesystem]]]]
    ) -> None:
        self._core = core
        self._claims = claims
        self._instruments = made = Instruments()
        self._starts, self._ends = Starts(time.time), Ends()
        self._starting_with_users: set[str] = set()
        made.node_name.labels(core.facts.name).set(1)
        made.build.labels(VERSION, f"linux/{platform.machine()}").set(1)
        self._pods = _Pods()
        made.registry.register(self._pods)
        # Registers itself.
        for registry in (made.registry, made.probes):
            ProcessCollector(registry=registry)
        self._listen()

    def _listen(self) -> None:
        core = self._core
        core.cri.on_call.append(self._called)
        node, measures = self._instruments.node, core.tools.measures
        measures.on_relist.append(node.relisted)
        measures.on_eviction.append(node.evicted)
        measures.on_plugin.append(lambda name: node.plugin_registrations.labels(name).inc())
        measures.on_allocation.append(
            lambda name, seconds: node.allocation_seconds.labels(name).observe(seconds)
        )
        measures.on_certificate.append(node.certificate)
        self._instruments.registry.register(CertificateLives(certificate_files(core)))
        core.tools.measures.on_probe.append(self._probed)
        core.tools.measures.on_round.append(self._worked)
        core.tools.measures.on_sandbox.append(self._sandbox)
        core.recorder.listeners.append(self._told)
        core.on_status.append(self._published)
        core.on_gone.append(self._gone)
        if core.api is not None:
            host = core.api.access.server.partition("://")[2]
            requests = self._instruments.client_requests
            core.api.on_answer.append(
                lambda method, code: requests.labels(str(code), method, host).inc()
            )

    def _called(self, call: str, seconds: float, done: bool) -> None:
        made, kind = self._instruments, operation_type(call)
        made.operations.labels(kind).inc()
        made.operation_seconds.labels(kind).observe(seconds)
        if not done:
            made.operation_errors.labels(kind).inc()

    def _sandbox(self, pod: Pod, done: bool) -> None:
        made = self._instruments
        made.started_pods.inc()
        if not done:
            made.started_pods_errors.labels("failed to create sandbox").inc()
        if pod.spec.host_users is False:
            made.started_user_namespaced_pods.inc()
            if done:
                # The ids of a pod are often refused by a container only.
                self._starting_with_users.add(pod.metadata.uid)
            else:
                made.started_user_namespaced_pods_errors.inc()

    def _probed(
        self, pod: Pod, container: Container, kind: Kind, result: Result, seconds: float
    ) -> None:
        outcome = {"success": "successful", "failure": "failed"}.get(result.outcome.value)
        meta, probe = pod.metadata, kind.value
        self._instruments.probe_runs.labels(
            probe, outcome or "unknown", container.name, meta.name, meta.namespace, meta.uid
        ).inc()
        if outcome == "successful":
            labels = (probe, container.name, meta.name, meta.namespace)
            self._instruments.probe_seconds.labels(*labels).observe(seconds)

    def _worked(self, operation: str, seconds: float) -> None:
        self._instruments.worker_seconds.labels(operation).observe(seconds)

    def _told(self, event: Event) -> None:
        self._starts.event(event)
        kind = _KINDS.get(
            event.involved_object.field_path.removeprefix("spec.").partition("{")[0], "container"
        )
        if event.reason == "Started" and event.involved_object.field_path:
            self._instruments.started_containers.labels(kind).inc()
        elif event.reason == "Failed" and event.message.startswith("Error: "):
            code = event.message.removeprefix("Error: ")
            known = code if code.isalpha() else "RunContainerError"
            self._instruments.started_containers_errors.labels(known, kind).inc()
            if event.involved_object.uid in self._starting_with_users:
                self._starting_with_users.discard(event.involved_object.uid)
                self._instruments.started_user_namespaced_pods_errors.inc()

    def _published(self, pod: Pod, status: PodStatus) -> None:
        for labels in self._ends.status(pod, status):
            self._instruments.terminated_containers.labels(*labels).inc()
        started = self._starts.status(pod, status)
        if started is None:
            return
        self._starting_with_users.discard(pod.metadata.uid)
        made = self._instruments
        made.start_seconds.observe(started.since_seen)
        if started.since_made is not None:
            made.start_total_seconds.observe(started.since_made)
            made.start_sli_seconds.observe(max(0.0, started.since_made - started.pulls))

    def _gone(self, pod: Pod) -> None:
        self._starts.gone(pod)
        self._ends.gone(pod)
        self._starting_with_users.discard(pod.metadata.uid)
        meta = pod.metadata
        # Series of pods that are no more would stay for ever.
        for metric, key in (
            (self._instruments.probe_runs, (meta.name, meta.namespace, meta.uid)),
            (self._instruments.probe_seconds, (meta.name, meta.namespace)),
        ):
            for labels in [one for one in _labels_of(metric) if one[-len(key) :] == key]:
                metric.remove(*labels)

    def add(self, application: web.Application) -> None:
        """Add the paths."""
        router = application.router
        router.add_get("/metrics", self._all)
        router.add_get("/metrics/probes", self._probes)
        router.add_get("/metrics/slis", self._slis)

    async def _all(self, _: web.Request) -> web.StreamResponse:
        self._pods.counted = count_pods(self._core.manager.pods())
        body = await asyncio.to_thread(generate_latest, self._instruments.registry)
        claims = volume_metrics(await self._claims())
        return web.Response(body=body + claims.encode(), headers={"Content-Type": _TEXT})

    async def _probes(self, _: web.Request) -> web.StreamResponse:
        body = await asyncio.to_thread(generate_latest, self._instruments.probes)
        return web.Response(body=body, headers={"Content-Type": _TEXT})

    async def _slis(self, _: web.Request) -> web.StreamResponse:
        lines = (
            "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single "
            "healthcheck.",
            "# TYPE kubernetes_healthcheck gauge",
            *(f'kubernetes_healthcheck{{name="{name}",type="healthz"}} 1'
              for name in ("log", "ping", "syncloop")),
            "",
        )  # fmt: skip
        return web.Response(body="\n".join(lines).encode(), headers={"Content-Type": _TEXT})

    def counting(self, *, read_only: bool) -> Middleware:
        """Return the middleware that counts requests.

        Args:
            read_only: whether it is of the port without authentication.
        """
        server = "readonly" if read_only else "readwrite"

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            method = request.method if request.method in _METHODS else "other"
            path = bucket(request.path)
            long_running = "true" if path in _LONG else "false"
            labels, made, begun = (
                (method, path, server, long_running), self._instruments, time.monotonic(),
            )  # fmt: skip
            made.http_requests.labels(*labels).inc()
            with made.http_inflight.labels(*labels).track_inprogress():
                try:
                    return await handler(request)
                finally:
                    made.http_seconds.labels(*labels).observe(time.monotonic() - begun)

        return count


def certificate_files(core: Core) -> dict[str, Callable[[], Path | None]]:
    """Return where the certificates are whose lives are told: those that are renewed."""
    found: dict[str, Callable[[], Path | None]] = {}
    api = core.api
    if api is not None:
        found["client"] = lambda: api.access.certificate_file
    if core.settings.configuration.server_tls_bootstrap:
        store = CertificateStore(core.settings.cert_dir, SERVER_PREFIX)
        found["server"] = lambda: store.path
    return found


def bucket(path: str) -> str:
    """Return the label of a path: its first part, if it is one that is served (pure)."""
    parts = path.lstrip("/").split("/", 2)
    root = "/".join(parts[:2]) if parts[0] == "metrics" and len(parts) > 1 else parts[0]
    return root if root in _PATHS else "other"


class _Pods(Collecting):
    """Numbers of pods and containers, as they were when last set."""

    def __init__(self) -> None:
        self.counted: tuple[int, Counter[str]] = (0, Counter())

    def collect(self) -> Iterator[Metric]:
        """Return the numbers."""
        running, states = self.counted
        text = "Number of pods that have a running pod sandbox"
        yield GaugeMetricFamily("kubelet_running_pods", text, value=running)
        text = "Number of containers currently running"
        family = GaugeMetricFamily("kubelet_running_containers", text, labels=["container_state"])
        for state, number in sorted(states.items()):
            family.add_metric([state], number)
        yield family


def count_pods(pods: list[Pod]) -> tuple[int, Counter[str]]:
    """Return how many pods run, and containers by state (pure)."""
    running, states = 0, Counter({"running": 0})
    for pod in pods:
        status = pod.status
        every = (
            *status.init_container_statuses,
            *status.container_statuses,
            *status.ephemeral_container_statuses,
        )
        alive = 0
        for one in every:
            if one.state.running is not None:
                states["running"] += 1
                alive += 1
            elif one.state.terminated is not None:
                states["exited"] += 1
        running += bool(alive)
    return running, states


def _labels_of(metric: object) -> list[tuple[str, ...]]:
    """Return the label values of the series of a metric; the library has no public way."""
    return list(getattr(metric, "_metrics", {}))


def volume_metrics(claims: list[tuple[str, str, Filesystem]]) -> str:
    """Return what is known of the volumes of claims (pure).

    Args:
        claims: namespace, name and file system of each.
    """
    found = Families()
    for name, text, amount in _VOLUMES:
        found.describe(f"kubelet_volume_stats_{name}", "gauge", text)
        for namespace, claim, filesystem in claims:
            value = getattr(filesystem, amount)
            if value is not None:
                labels = written({"namespace": namespace, "persistentvolumeclaim": claim})
                found.add(f"kubelet_volume_stats_{name}", labels, value)
    return found.text()


_VOLUMES = (
    ("capacity_bytes", "Capacity in bytes of the volume", "capacity"),
    ("available_bytes", "Number of available bytes in the volume", "available"),
    ("used_bytes", "Number of used bytes in the volume", "used"),
    ("inodes", "Maximum number of inodes in the volume", "inodes"),
    ("inodes_free", "Number of free inodes in the volume", "inodes_free"),
    ("inodes_used", "Number of used inodes in the volume", "inodes_used"),
)
