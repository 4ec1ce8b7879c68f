"""Calls to a runtime, whose failures become one line for the person at the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import update_wrapper
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import click
import grpc

from kubeletpy.cri.client import target_of
from kubeletpy_proto import cri_pb2_grpc, images_pb2_grpc

KNOWN_SOCKETS: Final = (
    "/run/kubeletpy/runtime.sock",
    "/run/kubeletpy/up/runtime.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
)
"""Where runtimes listen by default, in the order in which they are looked for."""

_LARGEST_MESSAGE: Final = 32 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
)
_HINTS: Final = {
    grpc.StatusCode.UNAVAILABLE: (
        "is the runtime running, and are you root? Name its socket with --runtime-endpoint"
    ),
    grpc.StatusCode.UNIMPLEMENTED: "this runtime does not offer it",
    grpc.StatusCode.DEADLINE_EXCEEDED: "give it more time with --timeout",
}

_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)
_Answer = TypeVar("_Answer")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Method(Protocol[_Request, _Response]):
    """A unary call of a stub."""

    def __call__(self, request: _Request, /, *, timeout: float | None = None) -> _Response:
        """Make the call."""
        ...


class RuntimeFailure(click.ClickException):
    """The runtime refused, or was not reached; shown as one line, exit code 1."""


class Connection:
    """A runtime.

    Args:
        endpoint: ``unix:///path/to/socket``.
        timeout: seconds that a call may take.

    Attributes:
        runtime: the calls of the RuntimeService.
        images: the calls of the ImageService.
        transfer: the calls of our own service beside CRI; other runtimes do not have it.
    """

    def __init__(self, endpoint: str, timeout: float) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        try:
            target = target_of(endpoint)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--runtime-endpoint") from error
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self.runtime = cri_pb2_grpc.RuntimeServiceStub(self._channel)
        self.images = cri_pb2_grpc.ImageServiceStub(self._channel)
        self.transfer = images_pb2_grpc.ImageTransferStub(self._channel)

    def call(
        self,
        what: str,
        method: Method[_Request, _Answer],
        request: _Request,
        timeout: float | None = None,
    ) -> _Answer:
        """Make a call.

        Args:
            what: what it is for, for the error text, as in "list containers".
            method: of one of the stubs.
            request: its message.
            timeout: seconds, if other than the connection's.

        Raises:
            RuntimeFailure: the call failed.
        """
        try:
            return method(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise failure(what, self.endpoint, error) from error

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def failure(what: str, endpoint: str, error: grpc.RpcError) -> RuntimeFailure:
    """Return the line that tells of a failed call: what was tried, on what, why, what to do."""
    code, details = grpc.StatusCode.UNKNOWN, str(error)
    if isinstance(error, grpc.Call):
        code, details = error.code(), error.details() or ""
    hint = _HINTS.get(code)
    text = f"{what} ({endpoint}): {code.name}: {details}"
    return RuntimeFailure(f"{text}; {hint}" if hint else text)


def choose_endpoint(given: str | None, sockets: Iterable[str] = KNOWN_SOCKETS) -> str:
    """Return the endpoint that was given, or the first of the usual sockets that is there.

    Raises:
        click.UsageError: there is none.
    """
    if given:
        return given
    known = list(sockets)
    for path in known:
        if Path(path).is_socket():
            return f"unix://{path}"
    raise click.UsageError(
        f"no runtime listens on {', '.join(known)}: start one (`kubeletpy runtime`), or name its "
        "socket with --runtime-endpoint unix:///path/to/socket"
    )


def runtime_options(function: _Function) -> _Function:
    """Give a command ``--runtime-endpoint`` and ``--timeout``, and a Connection as first argument.

    Both may stand before or behind the name of the command.
    """

    @click.option(
        "-r",
        "--runtime-endpoint",
        metavar="SOCKET",
        help="The runtime's CRI socket, unix:///path [env: CONTAINER_RUNTIME_ENDPOINT; default: "
        "the first usual one that is there].",
    )
    @click.option("--timeout", type=click.FloatRange(0.1), help="Seconds for a call [default: 30].")
    @click.pass_context
    def command(
        context: click.Context,
        /,
        *arguments: Any,
        runtime_endpoint: str | None,
        timeout: float | None,
        **options: Any,
    ) -> Any:
        outer: dict[str, Any] = context.obj or {}
        endpoint = runtime_endpoint or outer.get("endpoint")
        connection = Connection(
            choose_endpoint(endpoint or os.environ.get("CONTAINER_RUNTIME_ENDPOINT")),
            timeout or outer.get("timeout") or 30.0,
        )
        context.call_on_close(connection.close)
        return function(connection, *arguments, **options)

    return cast(_Function, update_wrapper(command, function))


def group_options(function: _Function) -> _Function:
    """Give a group the same options, for all of its commands."""

    @click.option("-r", "--runtime-endpoint", metavar="SOCKET", help="The runtime's CRI socket.")
    @click.option("--timeout", type=click.FloatRange(0.1), help="Seconds for a call.")
    @click.pass_context
    def group(context: click.Context, runtime_endpoint: str | None, timeout: float | None) -> None:
        context.obj = {"endpoint": runtime_endpoint, "timeout": timeout}

    return cast(_Function, update_wrapper(group, function))
