"""Connections to plug-ins on unix sockets; what they answer is never trusted to be small."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

_T = TypeVar("_T")
_LARGEST_MESSAGE = 16 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    # A plug-in that comes back on the same path is another one: no connection is shared.
    ("grpc.use_local_subchannel_pool", 1),
)
_STILL_POSSIBLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    }
)


class PluginError(Exception):
    """A call of a plug-in that failed.

    Attributes:
        code: the gRPC status.
        detail: what the plug-in said.
    """

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        name = "".join(part.capitalize() for part in code.name.split("_"))
        # As Go words it, which people search for; US spelling.
        name = {"Cancelled": "Canceled", "Ok": "OK"}.get(name, name)
        super().__init__(f"rpc error: code = {name} desc = {detail}")
        self.code = code
        self.detail = detail

    @property
    def final(self) -> bool:
        """Whether the plug-in surely does nothing any more for the call (CSI: error scheme)."""
        return self.code not in _STILL_POSSIBLE


def connect(socket: Path | str) -> grpc.aio.Channel:
    """Return a channel to a plug-in; it connects at the first call."""
    return grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS)


async def call(
    method: Callable[..., Awaitable[_T]], request: object, *, timeout: float, wait: bool = False
) -> _T:
    """Call a plug-in and return its answer.

    Args:
        method: of a stub.
        request: its message.
        timeout: seconds it may take.
        wait: for the plug-in to listen, if it does not yet.

    Raises:
        PluginError: it failed, or was not done in time.
    """
    try:
        return await method(request, timeout=timeout, wait_for_ready=wait or None)
    except grpc.aio.AioRpcError as error:
        raise PluginError(error.code(), (error.details() or "")[:4096]) from error
    except grpc.aio.UsageError as error:
        raise PluginError(grpc.StatusCode.UNAVAILABLE, f"connection closed: {error}") from error
