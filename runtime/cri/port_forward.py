"""PortForward: a URL at which a client reaches the TCP ports of a pod."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import nullcontext
from pathlib import Path

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.cri.runtime import Runtime
from runtime.state.store import Pod
from runtime.streaming.port_forward import ForwardRequest

_CONNECT_SECONDS = 30.0
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def port_forward(
    runtime: Runtime, request: cri.PortForwardRequest
) -> cri.PortForwardResponse:
    """Return the URL; ports are named on the client's streams, or in the request.

    Raises:
        InvalidRequestError: a port is none.
        NotFoundError: there is no such pod.
        NotReadyError: it does not run.
        TooManyTokensError: too many URLs were asked for and not opened.
    """
    for port in request.port:
        if not 0 < port < 65536:
            raise InvalidRequestError(f"port {port} is not within 1 to 65535")
    pod = runtime.store.pod(request.pod_sandbox_id)
    _check_ready(pod)

    async def connect(port: int) -> socket.socket:
        _check_ready(pod)
        return await _connect(pod, port)

    forward = ForwardRequest(subject=pod.id, connect=connect, ports=tuple(request.port))
    return cri.PortForwardResponse(url=runtime.streaming.issue(forward))


def _check_ready(pod: Pod) -> None:
    if not pod.ready:
        raise NotReadyError(f"pod sandbox {pod.id} is not ready: there is nothing to forward to")


async def _connect(pod: Pod, port: int) -> socket.socket:
    """Connect to a port on the loopback of a pod.

    Raises:
        OSError: nobody listens or accepts in time, neither over IPv4 nor over IPv6.
    """
    loop = asyncio.get_running_loop()
    path = pod.record.namespaces.get("network")
    first: OSError | None = None
    for family, address in _LOOPBACKS:
        try:
            sock = await asyncio.to_thread(_socket_in, path, family)
        except OSError as error:
            first = first or error
            continue
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.sock_connect(sock, (address, port))
            return sock
        except OSError as error:  # TimeoutError is one
            sock.close()
            first = first or error
        except BaseException:
            sock.close()
            raise
    assert first is not None
    number = first.errno or 0
    where = " and ".join(address for _, address in _LOOPBACKS)
    raise OSError(number, f"connect to {where}: {os.strerror(number) if number else first}")


def _socket_in(path: str | None, family: socket.AddressFamily) -> socket.socket:
    # A socket belongs to the network namespace in which it was made, wherever it is used.
    with in_namespace(Path(path)) if path else nullcontext():
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setblocking(False)
    return sock
