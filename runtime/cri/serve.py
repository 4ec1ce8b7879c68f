"""The gRPC services: what belongs to every RPC and to none in particular.

The methods come from the protocol's own descriptors; one that has no function here answers
UNIMPLEMENTED. Around each function stand one log line, one duration and one mapping of errors.
A call that changes something runs to its end even if its caller goes away: half of a change would
have to be repaired by somebody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from kubeletpy_common.logs import event
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.attach import attach
from runtime.cri.container_stats import container_stats
from runtime.cri.container_status import container_status
from runtime.cri.create_container import create_container
from runtime.cri.errors import AbandonedError, details_of, is_expected, status_of
from runtime.cri.exec import exec_
from runtime.cri.exec_sync import exec_sync
from runtime.cri.get_container_events import get_container_events
from runtime.cri.image_fs_info import image_fs_info
from runtime.cri.image_status import image_status
from runtime.cri.list_container_stats import list_container_stats
from runtime.cri.list_containers import list_containers
from runtime.cri.list_images import list_images
from runtime.cri.list_metric_descriptors import list_metric_descriptors
from runtime.cri.list_pod_sandbox import list_pod_sandbox
from runtime.cri.list_pod_sandbox_metrics import list_pod_sandbox_metrics
from runtime.cri.list_pod_sandbox_stats import list_pod_sandbox_stats
from runtime.cri.pod_sandbox_stats import pod_sandbox_stats
from runtime.cri.pod_sandbox_status import pod_sandbox_status
from runtime.cri.port_forward import port_forward
from runtime.cri.pull_image import pull_image
from runtime.cri.remove_container import remove_container
from runtime.cri.remove_image import remove_image
from runtime.cri.remove_pod_sandbox import remove_pod_sandbox
from runtime.cri.reopen_container_log import reopen_container_log
from runtime.cri.run_pod_sandbox import run_pod_sandbox
from runtime.cri.runtime import Runtime
from runtime.cri.runtime_config import runtime_config
from runtime.cri.start_container import start_container
from runtime.cri.status import status
from runtime.cri.stop_container import stop_container
from runtime.cri.stop_pod_sandbox import stop_pod_sandbox
from runtime.cri.stream_container_stats import stream_container_stats
from runtime.cri.stream_containers import stream_containers
from runtime.cri.stream_images import stream_images
from runtime.cri.stream_pod_sandbox_metrics import stream_pod_sandbox_metrics
from runtime.cri.stream_pod_sandbox_stats import stream_pod_sandbox_stats
from runtime.cri.stream_pod_sandboxes import stream_pod_sandboxes
from runtime.cri.update_container_resources import update_container_resources
from runtime.cri.update_pod_sandbox_resources import update_pod_sandbox_resources
from runtime.cri.update_runtime_config import update_runtime_config
from runtime.cri.version import version

_log = logging.getLogger("runtime.cri")

Unary = Callable[[Runtime, Any], Awaitable[Any]]
Stream = Callable[[Runtime, Any, Callable[[], Awaitable[None]]], AsyncIterator[Any]]

READS: Final[dict[str, Unary]] = {
    "Version": version,
    "Status": status,
    "RuntimeConfig": runtime_config,
    "PodSandboxStatus": pod_sandbox_status,
    "ListPodSandbox": list_pod_sandbox,
    "ContainerStatus": container_status,
    "ListContainers": list_containers,
    "ImageStatus": image_status,
    "ListImages": list_images,
    "ImageFsInfo": image_fs_info,
    "ContainerStats": container_stats,
    "ListContainerStats": list_container_stats,
    "PodSandboxStats": pod_sandbox_stats,
    "ListPodSandboxStats": list_pod_sandbox_stats,
    "ListMetricDescriptors": list_metric_descriptors,
    "ListPodSandboxMetrics": list_pod_sandbox_metrics,
}
"""Calls that change nothing: logged at debug level, since clients poll them."""

COMMANDS: Final[dict[str, Unary]] = {
    "ExecSync": exec_sync,
    "Exec": exec_,
    "Attach": attach,
    "PortForward": port_forward,
    "PullImage": pull_image,
}
"""Calls that are given up when their caller goes away."""

CHANGES: Final[dict[str, Unary]] = {
    "RunPodSandbox": run_pod_sandbox,
    "StopPodSandbox": stop_pod_sandbox,
    "RemovePodSandbox": remove_pod_sandbox,
    "CreateContainer": create_container,
    "StartContainer": start_container,
    "StopContainer": stop_container,
    "RemoveContainer": remove_container,
    "ReopenContainerLog": reopen_container_log,
    "RemoveImage": remove_image,
    "UpdateContainerResources": update_container_resources,
    "UpdatePodSandboxResources": update_pod_sandbox_resources,
    "UpdateRuntimeConfig": update_runtime_config,
}
"""Calls that run to their end whatever their caller does."""

STREAMS: Final[dict[str, Stream]] = {
    "GetContainerEvents": get_container_events,
    "StreamPodSandboxes": stream_pod_sandboxes,
    "StreamContainers": stream_containers,
    "StreamImages": stream_images,
    "StreamContainerStats": stream_container_stats,
    "StreamPodSandboxStats": stream_pod_sandbox_stats,
    "StreamPodSandboxMetrics": stream_pod_sandbox_metrics,
}

# Fields of requests that say which call it was, for the log.
_SUBJECTS: Final = ("pod_sandbox_id", "container_id")
_QUIET: Final = frozenset({*READS, "ExecSync"})


def generic_handlers(runtime: Runtime) -> list[grpc.GenericRpcHandler]:
    """Return a handler for each service of the protocol, with all of its methods."""
    return [
        grpc.method_handlers_generic_handler(
            service.full_name,
            {method.name: _handler(runtime, method) for method in service.methods},
        )
        for service in cri.DESCRIPTOR.services_by_name.values()
    ]


def _handler(runtime: Runtime, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    name = method.name
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _stream(runtime, name, STREAMS.get(name)),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    function = READS.get(name) or COMMANDS.get(name) or CHANGES.get(name)
    return grpc.unary_unary_rpc_method_handler(
        _unary(runtime, name, function, finish=name in CHANGES),
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _unary(runtime: Runtime, name: str, function: Unary | None, *, finish: bool) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if function is None:
            await _refuse(name, context)
            return None
        started = time.monotonic()
        try:
            if finish:
                response = await _finish(runtime, function(runtime, request))
            else:
                response = await function(runtime, request)
        except asyncio.CancelledError:
            _record(name, request, started, "the caller went away")
            raise
        except Exception as error:
            _record(name, request, started, error)
            await context.abort(status_of(error), details_of(error))
        _record(name, request, started, None, response)
        return response

    return call


async def _finish(runtime: Runtime, change: Awaitable[Any]) -> Any:
    """Carry out a change to its end, whether or not the caller waits for it.

    Raises:
        AbandonedError: something within gave it up, which is a defect.
    """
    work = asyncio.ensure_future(change)
    runtime.keep(work)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not work.cancelled():
            raise
    try:
        work.result()
    except asyncio.CancelledError as error:
        raise AbandonedError(
            "the runtime gave up its own work for this call, which is a defect of it: see the "
            "traceback in its log, and report it; the call can be tried again"
        ) from error


def _stream(runtime: Runtime, name: str, function: Stream | None) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async def accept() -> None:
            await context.send_initial_metadata(())

        if function is None:
            await _refuse(name, context)
            return
        started = time.monotonic()
        try:
            async for response in function(runtime, request, accept):
                yield response
        except Exception as error:
            _record(name, request, started, error)
            await context.abort(status_of(error), details_of(error))

    return call


async def _refuse(name: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    event(_log, logging.DEBUG, "call not implemented", rpc=name)
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"{name} is not implemented by this version of kubeletpy"
    )


def _record(
    name: str, request: Any, started: float, error: Exception | str | None, response: Any = None
) -> None:
    fields: dict[str, Any] = {"rpc": name, "ms": round((time.monotonic() - started) * 1000, 3)}
    for subject in _SUBJECTS:
        value = getattr(request, subject, "") or getattr(response, subject, "")
        if value:
            fields[subject] = value[:12]
    if error is None:
        event(_log, logging.DEBUG if name in _QUIET else logging.INFO, "call", **fields)
        return
    fields["reason"] = str(error)
    if isinstance(error, Exception):
        fields["code"] = status_of(error).name
        if not is_expected(error):
            # A bug of ours: the only case in which a traceback helps anybody.
            _log.error("call failed unexpectedly", exc_info=error, extra={"fields": fields})
            return
    event(_log, logging.DEBUG if name in READS else logging.WARNING, "call failed", **fields)
