"""What ``up`` runs: a control plane and a node, their daemons started and stopped in order."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.up.commands import BRIDGE, DNS_ADDRESS, SERVICES, Commands
from kubeletpy.up.daemons import Daemon
from kubeletpy.up.errors import UpError
from kubeletpy.up.layout import Layout
from kubeletpy.up.objects import Objects, dns_objects, objects

_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_PODS_GONE_SECONDS = 45.0
_POLL_SECONDS = 0.02
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=5)
_REGISTRY_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: "{storage}"}}, delete: {{enabled: true}}}}
http: {{addr: "{address}", secret: "only-on-loopback"}}
"""


@dataclass(frozen=True)
class ApiFacts:
    """An API server that serves.

    Attributes:
        url: where it listens.
        version: of Kubernetes, whose API it speaks.
        kubeconfig: of its administrator.
    """

    url: str
    version: str
    kubeconfig: Path


class Node:
    """The daemons of one ``Layout``.

    Attributes:
        registry_address: ``127.0.0.1:PORT`` of the registry.
        kubelet_url: where the kubelet answers ``/healthz`` and ``/pods``.
        ingress: whether Ingresses are served.
    """

    def __init__(self, layout: Layout, registry_port: int, api_port: int = 0) -> None:
        self.layout = layout
        self._commands = commands = Commands(layout, registry_port, api_port)
        self.registry_address = f"127.0.0.1:{commands.registry_port}"
        self.kubelet_url = f"http://127.0.0.1:{commands.kubelet_port}"
        self.endpoint = f"unix://{layout.socket}"
        self.ingress = commands.ingress
        # The numbers are the order of starting, see leftovers.end_leftovers.
        self._api = self._daemon("0-apiserver", commands.apiserver(), tells_ready=True)
        self._registry = self._daemon("1-registry", commands.registry())
        self._runtime = self._daemon("2-runtime", commands.runtime())
        # If we are killed, the kubelet ends the pods; for that it needs the runtime, which the next
        # start ends.
        self._kubelet = self._daemon("3-kubelet", commands.kubelet(), ends_with_us=True)
        self._proxy = self._daemon("4-proxy", commands.proxy(), tells_ready=True)
        self._dns = self._daemon("5-dns", commands.dns(), tells_ready=True)
        # The last to start and the first to end: nothing is made for what goes.
        self._controllers = self._daemon(
            "6-controllers", commands.controllers(), tells_ready=True, ends_with_us=True
        )

        self._metrics = self._daemon("7-metrics", commands.metrics(), tells_ready=True)

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The daemons that were started, in that order."""
        node = (self._api, self._registry, self._runtime, self._kubelet)
        known = (*node, *self._of_cluster, self._metrics)
        return tuple(one for one in known if one.started)

    @property
    def _of_cluster(self) -> tuple[Daemon, ...]:
        """What makes a cluster of API server and node."""
        return (self._proxy, self._dns, self._controllers)

    async def start_api(self) -> None:
        """Start the API server; it gets ready while other things start.

        Raises:
            UpError: its port is taken.
        """
        _require_free("127.0.0.1", self._commands.api_port, "API server", "--apiserver-port")
        await self._api.start()

    async def await_api(self) -> ApiFacts:
        """Wait until the API server serves, and return what it tells of itself.

        Raises:
            UpError: it does not come up.
        """
        await self._api.ready(_START_SECONDS)
        try:
            config = yaml.safe_load(self.layout.kubeconfig.read_text())
            url = config["clusters"][0]["cluster"]["server"]
            version = await _version(url, _administrator(config))
        except (OSError, LookupError, ValueError, TypeError, aiohttp.ClientError) as error:
            raise UpError(
                f"the API server is ready, but does not tell its version ({error!r}); its log is "
                f"{self._api.log}"
            ) from error
        return ApiFacts(url, version, self.layout.kubeconfig)

    async def start_registry(self) -> None:
        """Start the registry and wait until it answers.

        Raises:
            UpError: its port is taken, or it does not come up.
        """
        host, _, port = self.registry_address.partition(":")
        _require_free(host, int(port), "registry", "--registry-port")
        storage = self.layout.data / "registry"
        self._commands.registry_config.write_text(
            _REGISTRY_CONFIG.format(storage=storage, address=self.registry_address)
        )
        await self._registry.start()
        url = f"http://{self.registry_address}/v2/"
        await self._registry.until(lambda: _answers(url), _START_SECONDS, "answer")

    async def start_runtime(self) -> str:
        """Start the runtime, wait until it serves CRI, and return its name and version.

        Raises:
            UpError: it does not come up.
        """
        await self._runtime.start()

        async def serves() -> bool:
            return self.layout.socket.exists()

        await self._runtime.until(serves, _START_SECONDS, f"listen on {self.layout.socket}")
        try:
            async with CriClient(self.endpoint, timeout=_START_SECONDS) as client:
                version = await client.version()
        except CriError as error:
            raise UpError(f"the runtime does not answer: {error}") from error
        return f"{version.runtime_name} {version.runtime_version}"

    async def start_kubelet(self) -> str:
        """Start the kubelet, wait until it has joined the API server, and return its node's name.

        Raises:
            UpError: it does not come up, or its node does not become Ready.
        """
        config = self._commands.kubelet_settings()
        self._commands.kubelet_config.write_text(yaml.safe_dump(config, sort_keys=False))
        await self._kubelet.start()
        url = f"{self.kubelet_url}/healthz"
        await self._kubelet.until(lambda: _answers(url), _START_SECONDS, "become healthy")
        ready: list[str] = []

        async def joined() -> bool:
            ready[:] = await self._ready_nodes()
            return bool(ready)

        await self._kubelet.until(joined, _START_SECONDS, "join the API server")
        return ready[0]

    async def start_cluster(self) -> None:
        """Start what makes a cluster of API server and node; it gets ready beside other things.

        Raises:
            UpError: one cannot be started, or the API server refuses what they need.
        """
        for each in self._of_cluster:
            await each.start()
        async with self.objects() as found:
            for one in dns_objects(self._commands.dns_port):
                await found.apply(one)

    async def route_services(self) -> None:
        """Let this machine reach Services although it has no way to anywhere else.

        The kernel looks for a route before the proxy's rules lead a connection elsewhere; where
        there is none, the pods' bridge, which is there by now, is as good as any. The route goes
        with it.
        """
        probe = ("ip", "-4", "route", "get", DNS_ADDRESS)
        if await _run(*probe):
            return
        if not await _run("ip", "-4", "route", "replace", SERVICES, "dev", BRIDGE):
            raise UpError(f"cannot route {SERVICES} by {BRIDGE}: see `ip -4 route`")

    async def start_metrics(self) -> None:
        """Start the server of metrics; it listens at the pods' bridge, which must be there.

        Raises:
            UpError: it cannot be started.
        """
        await self._metrics.start()

    async def await_cluster(self) -> None:
        """Wait until controllers, proxy, DNS and metrics work.

        Raises:
            UpError: one does not come up.
        """
        for each in (*self._of_cluster, self._metrics):
            await each.ready(_START_SECONDS)

    @contextlib.asynccontextmanager
    async def objects(self) -> AsyncIterator[Objects]:
        """Give the objects of the API server."""
        async with objects(self.layout.kubeconfig) as found:
            yield found

    async def _ready_nodes(self) -> list[str]:
        """Return the names of the nodes that the API server has as Ready."""
        try:
            config = yaml.safe_load(self.layout.kubeconfig.read_text())
            url = config["clusters"][0]["cluster"]["server"]
            found = await _asked(f"{url}/api/v1/nodes", _administrator(config))
        except aiohttp.ClientError:
            return []
        return [
            node["metadata"]["name"]
            for node in found.get("items") or []
            for condition in (node.get("status") or {}).get("conditions") or []
            if (condition["type"], condition["status"]) == ("Ready", "True")
        ]

    @contextlib.asynccontextmanager
    async def cri(self) -> AsyncIterator[CriClient]:
        """Give a client of the runtime."""
        async with CriClient(self.endpoint, timeout=_STOP_SECONDS) as client:
            yield client

    async def stop(self) -> list[str]:
        """End pods and daemons, the last started first; return what did not go well."""
        ends = (self._stop(one, _STOP_SECONDS) for one in (self._metrics, self._controllers))
        problems = [text for found in await asyncio.gather(*ends) for text in found]
        # Told to stop, this kubelet ends its pods first: it was started so.
        problems += await self._stop(self._kubelet, _PODS_GONE_SECONDS)
        if self._runtime.running:
            problems += await self._remove_sandboxes()
        problems += await self._stop(self._dns, _STOP_SECONDS)
        problems += await self._stop_proxy()
        problems += await self._stop(self._runtime, _STOP_SECONDS)
        problems += await self._stop(self._registry, _STOP_SECONDS)
        problems += await self._stop(self._api, _STOP_SECONDS)
        return problems

    async def _stop_proxy(self) -> list[str]:
        """End the proxy and remove its rules, which stay else."""
        began = self._proxy.running
        problems = await self._stop(self._proxy, _STOP_SECONDS)
        if not began:
            return problems
        process = await asyncio.create_subprocess_exec(
            *self._commands.proxy_cleanup(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return [*problems, f"the rules of the proxy were not removed in {_STOP_SECONDS:.0f} s"]
        if process.returncode:
            problems.append(f"rules of the proxy stay: {output.decode(errors='replace').strip()}")
        return problems

    async def _stop(self, daemon: Daemon, seconds: float) -> list[str]:
        if await daemon.stop(seconds):
            return []
        return [f"the {daemon.name} did not stop within {seconds:.0f} s and was killed"]

    async def _remove_sandboxes(self) -> list[str]:
        """Remove what a kubelet that died, or never came up, left in the runtime."""
        try:
            async with self.cri() as client:
                for sandbox in await client.list_pod_sandboxes():
                    await client.stop_pod_sandbox(sandbox.id)
                    await client.remove_pod_sandbox(sandbox.id)
        except CriError as error:
            return [f"cannot remove a pod: {error}"]
        return []

    def _daemon(
        self,
        name: str,
        command: list[str],
        *,
        ends_with_us: bool = False,
        tells_ready: bool = False,
    ) -> Daemon:
        label = name.partition("-")[2]
        log, pidfile = self.layout.logs / f"{label}.log", self.layout.run / f"{name}.pid"
        return Daemon(
            label,
            command,
            log=log,
            pidfile=pidfile,
            ends_with_us=ends_with_us,
            tells_ready=tells_ready,
        )


async def _run(*command: str) -> bool:
    """Run a command; return whether all went well."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait() == 0


def _administrator(config: dict[str, Any]) -> ssl.SSLContext:
    """Return the TLS of a kubeconfig's first user and cluster."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    # Python takes certificates from files only, and a key must not be in one more of these.
    with open(os.memfd_create("administrator"), "wb", buffering=0) as file:
        for name in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[name]))
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


async def _version(url: str, context: ssl.SSLContext) -> str:
    return str((await _asked(f"{url}/version", context))["gitVersion"])


async def _asked(url: str, context: ssl.SSLContext) -> dict[str, Any]:
    """Return the JSON object at ``url``."""
    async with (
        aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as session,
        session.get(url, ssl=context) as answer,
    ):
        value: dict[str, Any] = await answer.json()
        return value


def _require_free(host: str, port: int, what: str, flag: str) -> None:
    """Refuse a port that another program listens on.

    Raises:
        UpError: one does.
    """
    with socket.socket() as probe:
        # A port in TIME_WAIT, as after an earlier run, is free to a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"port {port} for the {what} is taken ({error.strerror}); choose another with "
                f"{flag}, or 0 for any free one"
            ) from error


async def _answers(url: str) -> bool:
    """Tell whether ``url`` answers with status 200."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as session,
            session.get(url) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
