"""Running lifecycle hooks.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/ : exec runs in the
container, httpGet is sent by the node (its answer's status does not matter, as in the Go kubelet;
one by HTTPS that is answered in plain HTTP is sent again so), sleep (KEP-3960) waits. A tcpSocket
hook succeeds if the port can be connected to.
"""

from __future__ import annotations

import asyncio
import math

import aiohttp

from kubeletpy.api.container import Container, HTTPGetAction, LifecycleHandler
from kubeletpy.cri.client import CriError
from kubeletpy.pods.state import Outcome
from kubeletpy.probes.checks import ExecService, check_tcp, port_of
from kubeletpy.probes.http import HOOK_AGENT, HttpClient, headers_of, speaks_plain, url_of


def describe(handler: LifecycleHandler) -> str:
    """Name a hook as the Go kubelet does: ``Exec lifecycle hook ([sh -c x])``."""
    if handler.exec is not None:
        return f"Exec lifecycle hook ([{' '.join(handler.exec.command)}])"
    if handler.http_get is not None:
        return f"HTTP lifecycle hook ({handler.http_get.path})"
    if handler.sleep is not None:
        return f"Sleep lifecycle hook ({handler.sleep.seconds})"
    return "TCP lifecycle hook"


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
    ) -> str:
        """Run one hook; return what is worth an event though it succeeded, or "".

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
                return await self._run(handler, container, container_id, address, timeout)
        except TimeoutError:
            raise HookError(f"not done within {timeout:.0f} s") from None

    async def _run(
        self,
        handler: LifecycleHandler,
        container: Container,
        container_id: str,
        address: str,
        timeout: float,
    ) -> str:
        if handler.exec is not None:
            await self._exec(handler.exec.command, container_id, timeout)
        elif handler.sleep is not None:
            await asyncio.sleep(handler.sleep.seconds)
        elif handler.http_get is not None:
            return await self._get(handler.http_get, container, address, timeout)
        elif handler.tcp_socket is not None:
            try:
                result = await check_tcp(handler.tcp_socket, container, address, timeout)
            except ValueError as error:
                raise HookError(str(error)) from error
            if result.outcome is not Outcome.SUCCESS:
                raise HookError(result.output)
        return ""

    async def _get(
        self, action: HTTPGetAction, container: Container, address: str, timeout: float
    ) -> str:
        try:
            url = url_of(action, address, port_of(action.port, container))
            headers = headers_of(action.http_headers, HOOK_AGENT)
            try:
                await self._http.get(url, headers, timeout, follow=False)
            except aiohttp.ClientError as error:
                if url.scheme != "https" or not speaks_plain(error):
                    raise
                # What was meant for an encrypted connection only is not sent without one.
                open_headers = [one for one in headers if one[0].lower() != "authorization"]
                await self._http.get(url.with_scheme("http"), open_headers, timeout, follow=False)
                return (
                    f"request to HTTPS lifecycle hook {url.host}:{url.port} got HTTP response, "
                    "retry with HTTP succeeded"
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookError(f"HTTP GET {action.path} failed: {error}") from error
        return ""

    async def _exec(self, command: list[str], container_id: str, timeout: float) -> None:
        name = command[0] if command else ""
        try:
            answer = await self._service.exec_sync(container_id, command, math.ceil(timeout))
        except CriError as error:
            raise HookError(f"exec of {name!r} failed: {error}") from error
        if answer.exit_code != 0:
            raise HookError(f"exec of {name!r} exited with {answer.exit_code}")
