"""Assembling a proxy of its settings: the machine, the source, the rules, the servers."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kubeletpy_common import logs, watchdog

from . import options
from .backend import RuleOptions, SyncError
from .backends import MODES, ModeError, open_backend
from .errors import StartError
from .inputs import files
from .inputs.watching import changes
from .model.objects import Node
from .model.portal import Family
from .observing import Observers
from .runner import NotKnown, Proxy, Quiet
from .settings import Settings
from .syncing import Observer, Pace

if TYPE_CHECKING:
    from kubeletpy_common.apiclient.client import ApiClient

    from .podnetwork.settings import Settings as NetworkSettings

_log = logging.getLogger(__name__)
_LIST_SECONDS = 300.0
"""Seconds that ``--once`` and ``--dry-run`` wait for the API server."""


class Daemon:
    """What the command does.

    Args:
        settings: all of them.
        objects: file or directory to take objects of; None: of the API server.
        policies: NetworkPolicies of the API server are enforced as well.
        pod_network: how the pods of other nodes are reached; "none": that is no work of ours.
    """

    def __init__(
        self, settings: Settings, objects: Path | None, *, policies: bool = False,
        pod_network: str = "none",
    ) -> None:  # fmt: skip
        self._settings = settings
        self._pod_network = pod_network
        self._policies = policies
        self._one = settings.configuration
        self._objects = objects
        self._families = options.families()
        self._client: ApiClient | None = None
        self._name = self._one.hostname_override or socket.gethostname().strip().lower()

    def set_up_kernel(self) -> None:
        """Set what of the kernel is configured, beside rules."""
        from .host import kernel

        kernel.set_up(self._one.conntrack)
        kernel.set_oom_score(self._one.oom_score_adj)

    def clean_up(self) -> None:
        """Remove the rules of all modes.

        Raises:
            StartError: some could not be removed.
        """
        failed = [text for mode in MODES for text in self._cleaned(mode)]
        if self._policies:
            from .policy import enforcer

            try:
                enforcer.clean_up()
            except SyncError as error:
                failed.append(str(error))
        if self._pod_network != "none":
            from .podnetwork import command

            try:
                command.clean_up()
            except StartError as error:
                failed.append(str(error))
        if failed:
            raise StartError("--cleanup: " + "; ".join(failed))

    def _cleaned(self, mode: str) -> list[str]:
        """Remove the rules of a mode; return what failed."""
        failed = []
        for family in Family:
            try:
                backend = open_backend(mode, RuleOptions(family))
                try:
                    backend.cleanup()
                finally:
                    backend.close()
            except (SyncError, ModeError) as error:
                failed.append(f"{mode}, {family.name}: {error}")
        return failed

    def _clean_other_modes(self) -> None:
        """Remove what another mode left here; best effort, as in the peer."""
        for mode in MODES:
            if mode != self._one.mode:
                for text in self._cleaned(mode):
                    logs.event(
                        _log, logging.WARNING, "rules of another mode may be left", reason=text
                    )

    async def plan(self) -> str:
        """Return the rules that would be written.

        Raises:
            StartError: objects cannot be had.
        """
        async with self._filled(Quiet()) as proxy:
            return proxy.plan()

    async def once(self) -> None:
        """Write the rules once.

        Raises:
            StartError: objects cannot be had, or rules not be written.
        """
        async with self._filled(Quiet()) as proxy:
            await asyncio.to_thread(self.set_up_kernel)
            await asyncio.to_thread(self._clean_other_modes)
            if not await proxy.once():
                raise StartError("rules could not be written; the log says which and why")

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            StartError: it cannot start, or what it needs is gone.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        network = self._network_settings()
        self.set_up_kernel()
        cleaning = asyncio.create_task(asyncio.to_thread(self._clean_other_modes))
        observers = Observers()
        proxy = self._proxy(observers)
        try:
            async with self._source(proxy) as source:
                others = [
                    *self._servers(proxy, observers),
                    self._stay_configured(),
                    watchdog.run(),
                    *self._enforcing(),
                    *self._connecting(network),
                ]
                for text in options.warnings(self._one):
                    logs.event(_log, logging.WARNING, text)
                await proxy.run(source, stop, *others)
        except NotKnown as error:
            raise StartError(str(error)) from None
        finally:
            cleaning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cleaning
            await observers.close()

    def _proxy(self, observer: Observer) -> Proxy:
        one = self._one
        return Proxy(
            self._name,
            families=self._families,
            options=self._rule_options,
            missing=self._missing,
            open_backend=lambda each: open_backend(one.mode, each),
            pace=Pace(one.pace.min_sync_period, one.pace.sync_period),
            observer=observer,
            external_ips=self._settings.external_ips,
            service_networks=one.mode == "nftables",
        )

    def _missing(self, node: Node | None) -> options.Missing | None:
        found = options.missing(self._one, node)
        # What files do not say of the node will not come later.
        late = self._objects is not None and found is not None and not found.vital
        return None if late else found

    def _rule_options(self, node: Node | None, family: Family) -> RuleOptions:
        return options.rule_options(self._one, node, family)

    @contextlib.asynccontextmanager
    async def _filled(self, observer: Observer) -> AsyncIterator[Proxy]:
        """Give a proxy that has all objects, once."""
        proxy = self._proxy(observer)
        if self._objects is not None:
            files.load(self._objects, proxy.inputs)
            yield proxy
            return
        async with self._source(proxy) as source:
            task = asyncio.create_task(source)
            try:
                async with asyncio.timeout(_LIST_SECONDS):
                    await proxy.filled(asyncio.Event(), [task])
            except NotKnown as error:
                raise StartError(str(error)) from None
            except TimeoutError:
                raise StartError(
                    f"the API server did not list all objects in {_LIST_SECONDS:.0f} s; the log "
                    "says why"
                ) from None
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            yield proxy

    @contextlib.asynccontextmanager
    async def _source(self, proxy: Proxy) -> AsyncIterator[Coroutine[Any, Any, None]]:
        """Give what puts objects into a proxy."""
        if self._objects is not None:
            yield files.follow(self._objects, proxy.inputs)
            return
        from kubeletpy_common.apiclient.access import access_of
        from kubeletpy_common.apiclient.client import PROXY_AGENT
        from kubeletpy_common.apiclient.client import ApiClient as Client
        from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

        from .inputs.cluster import follow

        connection = self._one.client_connection
        try:
            access = access_of(connection.kubeconfig, self._settings.master, os.environ)
            client = Client(access, rate=connection.qps, burst=connection.burst, agent=PROXY_AGENT)
        except KubeconfigError as error:
            raise StartError(str(error)) from None
        self._client = client
        async with client:
            yield follow(client, proxy.inputs, self._name)

    def _enforcing(self) -> list[Coroutine[Any, Any, None]]:
        """Return what enforces policies, if that is wanted."""
        if not self._policies or self._client is None:
            return []
        from .policy.running import enforce

        return [enforce(self._client, self._name, self._families)]

    def _network_settings(self) -> NetworkSettings | None:
        """Return how the pods of other nodes are to be reached; None: that is no work of ours.

        Raises:
            StartError: it cannot be so.
        """
        if self._pod_network == "none":
            return None
        from .podnetwork.settings import settings_of

        return settings_of(self._pod_network, self._one.cluster_cidrs)

    def _connecting(self, network: NetworkSettings | None) -> list[Coroutine[Any, Any, None]]:
        """Return what routes between the pods of all nodes, if that is wanted."""
        if network is None or self._client is None:
            return []
        from .podnetwork.running import connect

        return [connect(self._client, self._name, network)]

    def _servers(self, proxy: Proxy, observers: Observers) -> list[Coroutine[Any, Any, None]]:
        """Return what serves health and metrics, and let it be told of syncs."""
        from .health import servers, state
        from .health.metrics import Metrics
        from .health.services import ServiceHealth

        one = self._one
        health = state.Health(2 * one.pace.sync_period, time.time)
        metrics = Metrics(one.mode, proxy.model, self._families)
        service_health = ServiceHealth(
            lambda: health.healthy, lambda: self._health_addresses(proxy.inputs.node)
        )
        observers.join(proxy.model, self._families, health, metrics, service_health)

        if self._client is not None:
            host = urlsplit(self._client.access.server).netloc
            self._client.on_answer.append(partial(metrics.asked, host))

        def eligible() -> bool:
            # Objects of files need no node.
            return self._objects is not None or state.eligible(proxy.inputs.node)

        hard, found = one.bind_address_hard_fail, []
        if one.healthz_bind_address:
            app = servers.healthz_app(health, metrics, eligible)
            found.append(servers.serve(app, one.healthz_bind_address, "healthz", hard=hard))
        if one.metrics_bind_address:
            app = servers.metrics_app(one, metrics)
            found.append(servers.serve(app, one.metrics_bind_address, "metrics", hard=hard))
        return found

    def _health_addresses(self, node: Node | None) -> tuple[str, ...]:
        """Return where health checks of Services listen: as node ports do."""
        networks = [
            ipaddress.ip_network(each)
            for family in self._families
            for each in self._rule_options(node, family).node_port_addresses
        ]
        if not networks:
            return ("0.0.0.0",)
        from .host.addresses import addresses

        return tuple(
            ip for ip in addresses() if any(ipaddress.ip_address(ip) in n for n in networks)
        )

    async def _stay_configured(self) -> None:
        """End the proxy when its configuration file changes, as the peer does: it is started anew.

        Raises:
            StartError: then.
        """
        path = self._settings.config_file
        if path is None:
            await asyncio.Event().wait()
            return
        before: bytes | None = None
        async for _ in changes(path):
            # An editor may have it away for a moment; it comes back with another event.
            with contextlib.suppress(OSError):
                now = path.read_bytes()
                before = before if before is not None else now
                if now != before:
                    raise StartError(
                        f"content of the proxy server's configuration file was updated: {path}"
                    )
