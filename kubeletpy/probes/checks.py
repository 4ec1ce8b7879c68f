"""One run of a probe: HTTP, TCP, exec or gRPC.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import grpc
import grpc.aio

from kubeletpy.api.base import IntOrString
from kubeletpy.api.container import Container, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from kubeletpy.cri.client import CriError
from kubeletpy.cri.environment import expand_all
from kubeletpy.pods.state import Outcome
from kubeletpy_proto import cri_pb2

from .http import HttpClient, headers_of, url_of

LONGEST_OUTPUT = 1024
"""Characters of a probe's output that are kept for its event."""
_SERVING = 1
_HEALTH = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


class ExecService(Protocol):
    """What is needed of the runtime; `kubeletpy.cri.client.CriClient` has it."""

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout: int
    ) -> cri_pb2.ExecSyncResponse:
        """Run a command in a container."""


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of one run; UNKNOWN means that it could not be run, and is not counted.

    ``warning``: it counts as a success, and something about it is worth an event.
    """

    outcome: Outcome
    output: str = ""
    warning: bool = False


def port_of(port: IntOrString, container: Container) -> int:
    """Return the number of a port that may be given by name.

    Raises:
        ValueError: no such name, or the number is out of range.
    """
    if isinstance(port, str) and not port.isdecimal():
        for candidate in container.ports:
            if candidate.name == port:
                return candidate.container_port
        raise ValueError(f"container {container.name} has no port named {port!r}")
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"port {number} is not between 1 and 65535")
    return number


def static_command(command: Sequence[str], container: Container) -> list[str]:
    """Expand ``$(NAME)`` by those variables of the container that are written out in it."""
    return expand_all(command, {variable.name: variable.value for variable in container.env})


class Checker:
    """Runs probes against containers."""

    def __init__(self, service: ExecService, http: HttpClient) -> None:
        self._service = service
        self._http = http

    async def check(
        self, probe: Probe, container: Container, container_id: str, address: str
    ) -> Result:
        """Run ``probe`` once and return what came of it; takes its timeout at most.

        Args:
            probe: what to ask.
            container: whose port names are meant.
            container_id: where a command runs.
            address: the pod's IP, asked unless the probe names a host.
        """
        timeout = max(probe.timeout_seconds, 1)
        try:
            if probe.exec is not None:
                command = static_command(probe.exec.command, container)
                return await self._exec(command, container_id, timeout)
            if probe.http_get is not None:
                return await self._get(probe.http_get, container, address, timeout)
            if probe.tcp_socket is not None:
                return await check_tcp(probe.tcp_socket, container, address, timeout)
            if probe.grpc is not None:
                return await check_grpc(probe.grpc, address, timeout)
        except ValueError as error:
            return Result(Outcome.UNKNOWN, str(error))
        return Result(Outcome.SUCCESS)

    async def _exec(self, command: Sequence[str], container_id: str, timeout: int) -> Result:
        try:
            answer = await self._service.exec_sync(container_id, command, timeout)
        except CriError as error:
            if error.timed_out:
                text = f'command timed out: "{" ".join(command)}" timed out after {timeout}s'
                return Result(Outcome.FAILURE, text)
            return Result(Outcome.UNKNOWN, str(error))
        output = (answer.stdout + answer.stderr)[:LONGEST_OUTPUT].decode(errors="replace")
        outcome = Outcome.SUCCESS if answer.exit_code == 0 else Outcome.FAILURE
        return Result(outcome, output)

    async def _get(
        self, action: HTTPGetAction, container: Container, address: str, timeout: float
    ) -> Result:
        url = url_of(action, address, port_of(action.port, container))
        try:
            answer = await self._http.get(url, headers_of(action.http_headers), timeout)
        except TimeoutError:
            cause = f"no answer within {timeout:g} s: context deadline exceeded"
            return Result(Outcome.FAILURE, f'Get "{url}": {cause}')
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = str(error)
            no_tls = not isinstance(error, aiohttp.ClientSSLError)
            if isinstance(error, aiohttp.ClientConnectorError) and no_tls:
                cause = _not_dialled(error.host or "", error.port or 0, error.os_error)
            return Result(Outcome.FAILURE, f'Get "{url}": {cause}'[:LONGEST_OUTPUT])
        body = answer.body[:LONGEST_OUTPUT].decode(errors="replace")
        if 300 <= answer.status < 400:
            text = f"Probe terminated redirects, Response body: {body}"
            return Result(Outcome.SUCCESS, text, warning=True)
        if 200 <= answer.status < 300:
            return Result(Outcome.SUCCESS, body)
        return Result(Outcome.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def check_tcp(
    action: TCPSocketAction, container: Container, address: str, timeout: float
) -> Result:
    """Succeed if a TCP connection can be opened.

    Raises:
        ValueError: the port is no port.
    """
    host, port = action.host or address, port_of(action.port, container)
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Result(Outcome.FAILURE, f"dial tcp {host}:{port}: no answer within {timeout:g} s")
    except OSError as error:
        return Result(Outcome.FAILURE, _not_dialled(host, port, error))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Result(Outcome.SUCCESS)


def _not_dialled(host: str, port: int, error: OSError) -> str:
    """Return why there is no connection, as Go puts it: people look for these words."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not error.errno or isinstance(error, socket.gaierror):
        return f"dial tcp {where}: {error}"
    return f"dial tcp {where}: connect: {os.strerror(error.errno).lower()}"


async def check_grpc(action: GRPCAction, address: str, timeout: float) -> Result:
    """Ask ``grpc.health.v1.Health/Check``; only SERVING is a success.

    The two messages of that protocol have one field each, so they are read and written here: the
    request's service name is field 1, a string; the answer's status is field 1, an enum.
    """
    host = f"[{address}]" if ":" in address else address
    service = (action.service or "").encode()
    request = b"\n" + _varint(len(service)) + service if service else b""
    options = (("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", "kube-probe/1.36"))
    async with grpc.aio.insecure_channel(f"{host}:{action.port}", options=options) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        try:
            answer: bytes = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            text = _grpc_fault(error, f"{host}:{action.port}", timeout)
            return Result(Outcome.FAILURE, text[:LONGEST_OUTPUT])
    number = answer[1] if answer[:1] == b"\x08" and len(answer) > 1 else 0
    if number == _SERVING:
        return Result(Outcome.SUCCESS, "service healthy")
    word = _HEALTH[number] if number < len(_HEALTH) else str(number)
    return Result(Outcome.FAILURE, f'service unhealthy (responded with "{word}")')


def _grpc_fault(error: grpc.aio.AioRpcError, address: str, timeout: float) -> str:
    """Return what went wrong, as the Go kubelet puts it."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNIMPLEMENTED:
        what = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return f"error: {what}: {details}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"timeout: health rpc did not complete within {timeout:g}s"
    if code is grpc.StatusCode.UNAVAILABLE:
        return f'error: failed to connect service at "{address}": {details}'
    return f"error: health rpc probe failed: {code.name}: {details}"


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
