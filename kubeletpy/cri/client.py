"""A typed async client to any CRI v1 socket; every call has a deadline."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio

from kubeletpy_proto import cri_pb2, cri_pb2_grpc

_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)
_Answer = TypeVar("_Answer")

Stream: TypeAlias = (
    "grpc.aio.UnaryStreamCall[cri_pb2.GetEventsRequest, cri_pb2.ContainerEventResponse]"
)

# The Go kubelet's limit for one message, either way.
_LARGEST_MESSAGE = 16 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3000),
    ("grpc.enable_http_proxy", 0),
    # Without it the authority is the escaped path of the socket, which strict servers refuse.
    ("grpc.default_authority", "localhost"),
    # Two clients of one process (two runtimes under test) do not share connections.
    ("grpc.use_local_subchannel_pool", 1),
)
_SLOW_FACTOR = 2
"""Sandbox calls set up networks: they get twice the time, as in the Go kubelet."""


class CriError(Exception):
    """A call that the runtime refused, or that did not reach it.

    Attributes:
        code: the gRPC status, for instance ``grpc.StatusCode.NOT_FOUND``.
        message: what the runtime said.
        method: the RPC.
    """

    def __init__(self, method: str, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"CRI {method}: {code.name}: {message}")
        self.method = method
        self.code = code
        self.message = message

    @property
    def not_found(self) -> bool:
        """Whether the object does not exist (any more)."""
        return self.code is grpc.StatusCode.NOT_FOUND

    @property
    def unavailable(self) -> bool:
        """Whether the runtime was not reached: trying again later makes sense."""
        return self.code is grpc.StatusCode.UNAVAILABLE

    @property
    def timed_out(self) -> bool:
        """Whether the deadline passed; the runtime may have done the work or not."""
        return self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    @property
    def unimplemented(self) -> bool:
        """Whether the runtime does not know the RPC."""
        return self.code is grpc.StatusCode.UNIMPLEMENTED


class _Method(Protocol[_Request, _Response]):
    def __call__(
        self, request: _Request, /, *, timeout: float | None = None
    ) -> Awaitable[_Response]: ...


def target_of(endpoint: str) -> str:
    """Return gRPC's name of a ``--container-runtime-endpoint``.

    Raises:
        ValueError: it is not ``unix:///path`` (or an absolute path).
    """
    path = endpoint
    for prefix in ("unix://", "unix:"):
        if endpoint.startswith(prefix):
            path = endpoint[len(prefix) :]
            break
    if not path.startswith("/"):
        raise ValueError(
            f"container runtime endpoint {endpoint!r} is not a unix socket: write it as "
            "unix:///run/kubeletpy/runtime.sock"
        )
    return f"unix:{path}"


class CriClient:
    """The RPCs of a runtime as methods; each raises CriError.

    The connection is made at the first call and made anew after it broke, so a client outlives
    restarts of the runtime.

    Args:
        endpoint: ``unix:///path/to/socket``.
        timeout: seconds that a call may take (``--runtime-request-timeout``).
        image_endpoint: another socket for images, if they are served elsewhere.

    Attributes:
        on_call: each is told of every call: its name, its seconds, and whether it succeeded.
    """

    def __init__(
        self, endpoint: str, *, timeout: float = 120.0, image_endpoint: str | None = None
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.on_call: list[Callable[[str, float, bool], None]] = []
        self._channel = grpc.aio.insecure_channel(target_of(endpoint), options=_OPTIONS)
        self._image_channel = self._channel
        if image_endpoint is not None and image_endpoint != endpoint:
            self._image_channel = grpc.aio.insecure_channel(
                target_of(image_endpoint), options=_OPTIONS
            )
        self.runtime: cri_pb2_grpc.RuntimeServiceAsyncStub = cri_pb2_grpc.RuntimeServiceStub(
            self._channel
        )
        self.images: cri_pb2_grpc.ImageServiceAsyncStub = cri_pb2_grpc.ImageServiceStub(
            self._image_channel
        )

    async def __aenter__(self) -> CriClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close()
        if self._image_channel is not self._channel:
            await self._image_channel.close()

    async def connection_lost(self) -> None:
        """Return when a connection that is there, or comes, breaks: a runtime that dies is told."""
        ready = grpc.ChannelConnectivity.READY
        for wanted in (True, False):
            while ((state := self._channel.get_state()) is ready) is not wanted:
                await self._channel.wait_for_state_change(state)

    async def _call(
        self,
        name: str,
        method: _Method[_Request, _Answer],
        request: _Request,
        timeout: float | None = None,
    ) -> _Answer:
        begun, done = time.monotonic(), False
        try:
            answer = await method(request, timeout=self.timeout if timeout is None else timeout)
            done = True
            return answer
        except grpc.aio.AioRpcError as error:
            raise CriError(name, error.code(), error.details() or "") from error
        finally:
            for each in self.on_call:
                each(name, time.monotonic() - begun, done)

    async def version(self) -> cri_pb2.VersionResponse:
        """Name and version of the runtime."""
        return await self._call("Version", self.runtime.Version, cri_pb2.VersionRequest())

    async def status(self, *, verbose: bool = False) -> cri_pb2.StatusResponse:
        """Conditions RuntimeReady and NetworkReady, handlers, features."""
        request = cri_pb2.StatusRequest(verbose=verbose)
        return await self._call("Status", self.runtime.Status, request)

    async def runtime_config(self) -> cri_pb2.RuntimeConfigResponse:
        """The runtime's cgroup driver."""
        request = cri_pb2.RuntimeConfigRequest()
        return await self._call("RuntimeConfig", self.runtime.RuntimeConfig, request)

    async def update_runtime_config(self, pod_cidr: str) -> None:
        """Tell the runtime the addresses of the node's pods."""
        request = cri_pb2.UpdateRuntimeConfigRequest(
            runtime_config=cri_pb2.RuntimeConfig(
                network_config=cri_pb2.NetworkConfig(pod_cidr=pod_cidr)
            )
        )
        await self._call("UpdateRuntimeConfig", self.runtime.UpdateRuntimeConfig, request)

    async def run_pod_sandbox(
        self, config: cri_pb2.PodSandboxConfig, runtime_handler: str = ""
    ) -> str:
        """Make a sandbox and return its id."""
        request = cri_pb2.RunPodSandboxRequest(config=config, runtime_handler=runtime_handler)
        answer = await self._call(
            "RunPodSandbox", self.runtime.RunPodSandbox, request, self.timeout * _SLOW_FACTOR
        )
        return answer.pod_sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop all of a sandbox and release its network; no error if it is gone."""
        request = cri_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._call(
            "StopPodSandbox", self.runtime.StopPodSandbox, request, self.timeout * _SLOW_FACTOR
        )

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox with its containers; no error if it is gone."""
        request = cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._call("RemovePodSandbox", self.runtime.RemovePodSandbox, request)

    async def pod_sandbox_status(
        self, sandbox_id: str, *, verbose: bool = False
    ) -> cri_pb2.PodSandboxStatusResponse:
        """State, addresses and, from runtimes with events, the containers of a sandbox."""
        request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=verbose)
        return await self._call("PodSandboxStatus", self.runtime.PodSandboxStatus, request)

    async def list_pod_sandboxes(
        self, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.PodSandbox]:
        """All sandboxes, or those that carry ``labels``."""
        request = cri_pb2.ListPodSandboxRequest(
            filter=cri_pb2.PodSandboxFilter(label_selector=labels or {})
        )
        answer = await self._call("ListPodSandbox", self.runtime.ListPodSandbox, request)
        return list(answer.items)

    async def create_container(
        self,
        sandbox_id: str,
        config: cri_pb2.ContainerConfig,
        sandbox_config: cri_pb2.PodSandboxConfig,
    ) -> str:
        """Make a container in a sandbox and return its id."""
        request = cri_pb2.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config
        )
        answer = await self._call("CreateContainer", self.runtime.CreateContainer, request)
        return answer.container_id

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        request = cri_pb2.StartContainerRequest(container_id=container_id)
        await self._call("StartContainer", self.runtime.StartContainer, request)

    async def stop_container(self, container_id: str, grace: int) -> None:
        """Signal the container, and kill it after ``grace`` seconds; no error if it is gone."""
        request = cri_pb2.StopContainerRequest(container_id=container_id, timeout=grace)
        await self._call(
            "StopContainer", self.runtime.StopContainer, request, self.timeout + max(grace, 0)
        )

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, killing it if it runs; no error if it is gone."""
        request = cri_pb2.RemoveContainerRequest(container_id=container_id)
        await self._call("RemoveContainer", self.runtime.RemoveContainer, request)

    async def list_containers(
        self, *, sandbox_id: str = "", labels: dict[str, str] | None = None
    ) -> list[cri_pb2.Container]:
        """All containers, or those of a sandbox, or those that carry ``labels``."""
        request = cri_pb2.ListContainersRequest(
            filter=cri_pb2.ContainerFilter(pod_sandbox_id=sandbox_id, label_selector=labels or {})
        )
        answer = await self._call("ListContainers", self.runtime.ListContainers, request)
        return list(answer.containers)

    async def container_status(
        self, container_id: str, *, verbose: bool = False
    ) -> cri_pb2.ContainerStatusResponse:
        """State, times, exit code and labels of a container."""
        request = cri_pb2.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        return await self._call("ContainerStatus", self.runtime.ContainerStatus, request)

    async def update_pod_sandbox_resources(
        self, sandbox_id: str, resources: cri_pb2.LinuxContainerResources
    ) -> None:
        """Tell the runtime of new limits of a pod as a whole, whose cgroup is the client's."""
        request = cri_pb2.UpdatePodSandboxResourcesRequest(
            pod_sandbox_id=sandbox_id, resources=resources
        )
        await self._call(
            "UpdatePodSandboxResources", self.runtime.UpdatePodSandboxResources, request
        )

    async def update_container_resources(
        self, container_id: str, linux: cri_pb2.LinuxContainerResources
    ) -> None:
        """Change the limits of a running container."""
        request = cri_pb2.UpdateContainerResourcesRequest(container_id=container_id, linux=linux)
        await self._call("UpdateContainerResources", self.runtime.UpdateContainerResources, request)

    async def reopen_container_log(self, container_id: str) -> None:
        """Make the runtime open the log file anew, after it was renamed."""
        request = cri_pb2.ReopenContainerLogRequest(container_id=container_id)
        await self._call("ReopenContainerLog", self.runtime.ReopenContainerLog, request)

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout: int
    ) -> cri_pb2.ExecSyncResponse:
        """Run a command in a container and return its output and exit code.

        Args:
            container_id: a running container.
            command: program and arguments.
            timeout: whole seconds (> 0) after which the runtime kills it (DEADLINE_EXCEEDED, or
                UNKNOWN with a message from some runtimes); the call itself waits longer.
        """
        request = cri_pb2.ExecSyncRequest(
            container_id=container_id, cmd=list(command), timeout=timeout
        )
        return await self._call("ExecSync", self.runtime.ExecSync, request, self.timeout + timeout)

    async def exec(self, request: cri_pb2.ExecRequest) -> str:
        """Return the URL at which a command in a container can be talked to, once."""
        return (await self._call("Exec", self.runtime.Exec, request)).url

    async def attach(self, request: cri_pb2.AttachRequest) -> str:
        """Return the URL at which the first process of a container can be talked to, once."""
        return (await self._call("Attach", self.runtime.Attach, request)).url

    async def port_forward(self, request: cri_pb2.PortForwardRequest) -> str:
        """Return the URL at which ports of a sandbox can be reached, once."""
        return (await self._call("PortForward", self.runtime.PortForward, request)).url

    async def container_stats(self, container_id: str) -> cri_pb2.ContainerStats:
        """CPU, memory and file system use of one container."""
        request = cri_pb2.ContainerStatsRequest(container_id=container_id)
        answer = await self._call("ContainerStats", self.runtime.ContainerStats, request)
        return answer.stats

    async def list_container_stats(self) -> list[cri_pb2.ContainerStats]:
        """CPU, memory and file system use of all running containers."""
        request = cri_pb2.ListContainerStatsRequest()
        answer = await self._call("ListContainerStats", self.runtime.ListContainerStats, request)
        return list(answer.stats)

    async def list_pod_sandbox_stats(self) -> list[cri_pb2.PodSandboxStats]:
        """CPU, memory, network and processes of all pods that run, and of their containers."""
        request = cri_pb2.ListPodSandboxStatsRequest()
        answer = await self._call("ListPodSandboxStats", self.runtime.ListPodSandboxStats, request)
        return list(answer.stats)

    async def list_metric_descriptors(self) -> list[cri_pb2.MetricDescriptor]:
        """The metrics that the runtime keeps."""
        request = cri_pb2.ListMetricDescriptorsRequest()
        answer = await self._call(
            "ListMetricDescriptors", self.runtime.ListMetricDescriptors, request
        )
        return list(answer.descriptors)

    async def list_pod_sandbox_metrics(self) -> list[cri_pb2.PodSandboxMetrics]:
        """Metrics of all pods and their containers."""
        request = cri_pb2.ListPodSandboxMetricsRequest()
        answer = await self._call(
            "ListPodSandboxMetrics", self.runtime.ListPodSandboxMetrics, request
        )
        return list(answer.pod_metrics)

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        """The image that a reference names, or None if it is not here."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image))
        answer = await self._call("ImageStatus", self.images.ImageStatus, request)
        return answer.image if answer.HasField("image") and answer.image.id else None

    async def pull_image(
        self,
        image: str,
        *,
        auth: cri_pb2.AuthConfig | None = None,
        sandbox_config: cri_pb2.PodSandboxConfig | None = None,
        timeout: float = 3600.0,
    ) -> str:
        """Fetch an image and return the reference to run it by.

        A slow registry is the runtime's to give up on; ``timeout`` is the last resort.
        """
        request = cri_pb2.PullImageRequest(
            image=cri_pb2.ImageSpec(image=image, user_specified_image=image),
            auth=auth,
            sandbox_config=sandbox_config,
        )
        answer = await self._call("PullImage", self.images.PullImage, request, timeout)
        return answer.image_ref

    async def list_images(self) -> list[cri_pb2.Image]:
        """All images of the runtime."""
        answer = await self._call("ListImages", self.images.ListImages, cri_pb2.ListImagesRequest())
        return list(answer.images)

    async def remove_image(self, image: str) -> None:
        """Remove an image; no error if it is gone."""
        request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image))
        await self._call("RemoveImage", self.images.RemoveImage, request)

    async def image_fs_info(self) -> cri_pb2.ImageFsInfoResponse:
        """Use of the file systems that hold images and containers."""
        request = cri_pb2.ImageFsInfoRequest()
        return await self._call("ImageFsInfo", self.images.ImageFsInfo, request)

    def container_events(self) -> Stream:
        """Open the raw stream of container events; use ``cri.events.ContainerEvents`` instead."""
        return self.runtime.GetContainerEvents(cri_pb2.GetEventsRequest())
