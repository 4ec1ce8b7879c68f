"""Running lifecycle hooks.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/ : exec runs in the
container, httpGet is sent by the node (its answer's status does not matter, as in the Go kubelet),
sleep (KEP-3960) waits. A tcpSocket hook succeeds if the port can be connected to.
"""

from __future__ import annotations

import asyncio
import math

import aiohttp

from kubeletpy.api.container import Container, LifecycleHandler
from kubeletpy.cri.client import CriError
from kubeletpy.pods.state import Outcome
from kubeletpy.probes.checks import ExecService, check_tcp, port_of
from kubeletpy.probes.http import HttpClient, headers_of, url_of


class HookError(Exception):
    """A hook that failed; the message names the hook and why, but not its output (secrets)."""


class Hooks:
    """Runs hooks of containers."""

    def __init__(self, service: ExecService, http: HttpClient) -> None:
        self._service = service
        self._http = http

    async def run(
        self,
        handler: LifecycleHandler,
        container: Container,
        container_id: str,
        address: str,
        timeout: float,
    ) -> None:
        """Run one hook.

        Args:
            handler: what to do.
            container: whose port names are meant.
            container_id: where a command runs.
            address: the pod's IP, asked unless the hook names a host.
            timeout: seconds it may take.

        Raises:
            HookError: it failed, or took longer than ``timeout``.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._run(handler, container, container_id, address, timeout)
        except TimeoutError:
            raise HookError(f"not done within {timeout:.0f} s") from None

    async def _run(
        self,
        handler: LifecycleHandler,
        container: Container,
        container_id: str,
        address: str,
        timeout: float,
    ) -> None:
        if handler.exec is not None:
            await self._exec(handler.exec.command, container_id, timeout)
        elif handler.sleep is not None:
            await asyncio.sleep(handler.sleep.seconds)
        elif handler.http_get is not None:
            action = handler.http_get
            try:
                url = url_of(action, address, port_of(action.port, container))
                headers = headers_of(action.http_headers)
                await self._http.get(url, headers, timeout, follow=False)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise HookError(f"HTTP GET {action.path} failed: {error}") from error
        elif handler.tcp_socket is not None:
            try:
                result = await check_tcp(handler.tcp_socket, container, address, timeout)
            except ValueError as error:
                raise HookError(str(error)) from error
            if result.outcome is not Outcome.SUCCESS:
                raise HookError(result.output)

    async def _exec(self, command: list[str], container_id: str, timeout: float) -> None:
        name = command[0] if command else ""
        try:
            answer = await self._service.exec_sync(container_id, command, math.ceil(timeout))
        except CriError as error:
            raise HookError(f"exec of {name!r} failed: {error}") from error
        if answer.exit_code != 0:
            raise HookError(f"exec of {name!r} exited with {answer.exit_code}")
