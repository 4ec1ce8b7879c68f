"""The gRPC service: its methods, one log line for each call, one mapping of errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from kubeletpy_common.logs import event
from kubeletpy_proto import images_pb2 as pb
from runtime.cri.errors import details_of, is_expected, status_of
from runtime.cri.runtime import Runtime
from runtime.transfer.export import export
from runtime.transfer.import_ import import_
from runtime.transfer.prune import prune
from runtime.transfer.pull import pull

_log = logging.getLogger("runtime.transfer")
_SERVICE = pb.DESCRIPTOR.services_by_name["ImageTransfer"]

_Stream = Callable[[Runtime, Any], AsyncGenerator[Any, None]]


def generic_handler(runtime: Runtime) -> grpc.GenericRpcHandler:
    """Return the handler of the service."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Pull": grpc.unary_stream_rpc_method_handler(
            _stream(runtime, "Pull", pull),
            request_deserializer=pb.PullRequest.FromString,
            response_serializer=pb.PullResponse.SerializeToString,
        ),
        "Import": grpc.stream_stream_rpc_method_handler(
            _stream(runtime, "Import", import_),
            request_deserializer=pb.ImportRequest.FromString,
            response_serializer=pb.ImportResponse.SerializeToString,
        ),
        "Export": grpc.unary_stream_rpc_method_handler(
            _stream(runtime, "Export", export),
            request_deserializer=pb.ExportRequest.FromString,
            response_serializer=pb.ExportResponse.SerializeToString,
        ),
        "Prune": grpc.unary_unary_rpc_method_handler(
            _prune(runtime),
            request_deserializer=pb.PruneRequest.FromString,
            response_serializer=pb.PruneResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)


def _stream(runtime: Runtime, name: str, function: _Stream) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        started = time.monotonic()
        try:
            async with aclosing(function(runtime, request)) as responses:
                async for response in responses:
                    yield response
        except asyncio.CancelledError:
            _record(name, started, "the caller went away")
            raise
        except Exception as error:
            _record(name, started, error)
            await context.abort(status_of(error), details_of(error))
        _record(name, started, None)

    return call


def _prune(runtime: Runtime) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.monotonic()
        work = asyncio.ensure_future(prune(runtime, request))
        runtime.keep(work)
        try:
            response = await asyncio.shield(work)
        except Exception as error:
            _record("Prune", started, error)
            await context.abort(status_of(error), details_of(error))
        _record("Prune", started, None)
        return response

    return call


def _record(name: str, started: float, error: Exception | str | None) -> None:
    fields: dict[str, Any] = {"rpc": name, "ms": round((time.monotonic() - started) * 1000, 3)}
    if error is None:
        event(_log, logging.INFO, "call", **fields)
        return
    fields["reason"] = str(error)
    if isinstance(error, Exception):
        fields["code"] = status_of(error).name
        if not is_expected(error):
            _log.error("call failed unexpectedly", exc_info=error, extra={"fields": fields})
            return
    event(_log, logging.WARNING, "call failed", **fields)
