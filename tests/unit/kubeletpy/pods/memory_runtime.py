"""A runtime made of plain data, for tests of what the workers do; it can hang and refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.events import Recorder
from kubeletpy.hooks.runner import Hooks
from kubeletpy.images.pulls import Images
from kubeletpy.pods.checkpoint import Checkpoints
from kubeletpy.pods.environment import EnvironmentFault
from kubeletpy.pods.observe import Observer
from kubeletpy.pods.state import ImageState, SandboxRecord
from kubeletpy.pods.tools import Tools
from kubeletpy.probes.checks import Checker
from kubeletpy.probes.http import HttpClient
from kubeletpy.status.generate import Node
from kubeletpy_proto import cri_pb2


@dataclass
class MemoryRuntime:
    """Sandboxes and containers by id.

    Attributes:
        refuse: error text by the name of a call; it is refused with it until taken out.
        hang: names of calls, optionally ``call:container``, that never return.
        calls: every call that changes something, in order.
        configs: the last configuration of a container, by its name.
        event: called after each change of a container, as a runtime sends events.
        looks: how often sandboxes were listed.
    """

    sandboxes: dict[str, cri_pb2.PodSandboxStatus] = field(default_factory=dict)
    containers: dict[str, cri_pb2.ContainerStatus] = field(default_factory=dict)
    boxes: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)
    hang: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    configs: dict[str, cri_pb2.ContainerConfig] = field(default_factory=dict)
    endpoint: str = "unix:///memory"
    event: Callable[[], None] = lambda: None
    looks: int = 0

    async def _enter(self, call: str, name: str = "") -> None:
        self.calls.append(f"{call} {name}".strip())
        await asyncio.sleep(0)
        if call in self.hang or f"{call}:{name}" in self.hang:
            await asyncio.Event().wait()
        if call in self.refuse:
            raise CriError(call, grpc.StatusCode.INTERNAL, self.refuse[call])

    def end(self, name: str, code: int) -> None:
        """Let the running container called ``name`` exit."""
        for status in self.containers.values():
            if status.metadata.name == name and status.state == cri_pb2.CONTAINER_RUNNING:
                self._exit(status, code)

    def _exit(self, status: cri_pb2.ContainerStatus, code: int) -> None:
        status.state = cri_pb2.CONTAINER_EXITED
        status.exit_code = code
        status.finished_at = time.time_ns()
        self.event()

    def named(self, name: str) -> list[cri_pb2.ContainerStatus]:
        return [one for one in self.containers.values() if one.metadata.name == name]

    async def list_pod_sandboxes(
        self, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.PodSandbox]:
        self.looks += 1
        return [
            cri_pb2.PodSandbox(id=one.id, metadata=one.metadata, state=one.state, labels=one.labels)
            for one in self.sandboxes.values()
            if (labels or {}).items() <= dict(one.labels).items()
        ]

    async def list_containers(
        self, *, labels: dict[str, str] | None = None
    ) -> list[cri_pb2.Container]:
        return [
            cri_pb2.Container(
                id=one.id,
                pod_sandbox_id=self.boxes[one.id],
                metadata=one.metadata,
                state=one.state,
                labels=one.labels,
            )
            for one in self.containers.values()
            if (labels or {}).items() <= dict(one.labels).items()
        ]

    async def pod_sandbox_status(self, sandbox_id: str) -> cri_pb2.PodSandboxStatusResponse:
        return cri_pb2.PodSandboxStatusResponse(status=self.sandboxes[sandbox_id])

    async def container_status(self, container_id: str) -> cri_pb2.ContainerStatusResponse:
        if container_id not in self.containers:
            raise CriError("ContainerStatus", grpc.StatusCode.NOT_FOUND, container_id)
        return cri_pb2.ContainerStatusResponse(status=self.containers[container_id])

    async def run_pod_sandbox(self, config: cri_pb2.PodSandboxConfig, _: str = "") -> str:
        await self._enter("RunPodSandbox", config.metadata.name)
        key = f"s{len(self.sandboxes)}"
        self.sandboxes[key] = cri_pb2.PodSandboxStatus(
            id=key, metadata=config.metadata, state=cri_pb2.SANDBOX_READY, labels=config.labels,
            created_at=time.time_ns(), network=cri_pb2.PodSandboxNetworkStatus(ip="127.0.0.1"),
        )  # fmt: skip
        return key

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await self._enter("StopPodSandbox", sandbox_id)
        self.sandboxes[sandbox_id].state = cri_pb2.SANDBOX_NOTREADY
        for key, status in self.containers.items():
            running = status.state == cri_pb2.CONTAINER_RUNNING
            if self.boxes[key] == sandbox_id and running:
                self._exit(status, 137)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self._enter("RemovePodSandbox", sandbox_id)
        self.sandboxes.pop(sandbox_id, None)
        for key in [key for key, box in self.boxes.items() if box == sandbox_id]:
            self.containers.pop(key, None)
            del self.boxes[key]

    async def create_container(
        self, sandbox_id: str, config: cri_pb2.ContainerConfig, _: cri_pb2.PodSandboxConfig
    ) -> str:
        await self._enter("CreateContainer", config.metadata.name)
        key = f"{sandbox_id}-{config.metadata.name}-{config.metadata.attempt}"
        assert key not in self.containers
        self.configs[config.metadata.name] = config
        self.containers[key] = cri_pb2.ContainerStatus(
            id=key, metadata=config.metadata, state=cri_pb2.CONTAINER_CREATED,
            created_at=time.time_ns(), labels=config.labels, annotations=config.annotations,
        )  # fmt: skip
        self.boxes[key] = sandbox_id
        return key

    async def start_container(self, container_id: str) -> None:
        status = self.containers[container_id]
        await self._enter("StartContainer", status.metadata.name)
        status.state = cri_pb2.CONTAINER_RUNNING
        status.started_at = time.time_ns()
        self.event()

    async def stop_container(self, container_id: str, grace: int) -> None:
        status = self.containers[container_id]
        await self._enter("StopContainer", status.metadata.name)
        if status.state == cri_pb2.CONTAINER_RUNNING:
            self._exit(status, 143)

    async def remove_container(self, container_id: str) -> None:
        await self._enter("RemoveContainer", container_id)
        self.containers.pop(container_id, None)
        self.event()

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout: int
    ) -> cri_pb2.ExecSyncResponse:
        await self._enter("ExecSync", " ".join(command))
        return cri_pb2.ExecSyncResponse(exit_code=int(command[0] == "false"))

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        return cri_pb2.Image(id=f"sha256:{image}")

    async def pull_image(
        self,
        image: str,
        *,
        auth: cri_pb2.AuthConfig | None = None,
        sandbox_config: cri_pb2.PodSandboxConfig | None = None,
    ) -> str:
        await self._enter("PullImage", image)
        return image


class MemoryEnvironment:
    """Makes nothing on the node; `fault` makes it refuse, `unmounts` cleared makes it hang."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.unmounts = asyncio.Event()
        self.unmounts.set()
        self.fault = ""

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.fault == call:
            raise EnvironmentFault("FailedMount", f"{call} refused")

    def admit(self, pod: Pod) -> None: ...

    def changed(self, pod: Pod) -> None: ...

    async def sweep(self, known: Collection[str]) -> None: ...

    async def prepare(self, pod: Pod) -> None:
        self._enter("prepare")

    def sandbox(self, pod: Pod, attempt: int) -> tuple[cri_pb2.PodSandboxConfig, list[str]]:
        meta = cri_pb2.PodSandboxMetadata(
            name=pod.metadata.name, uid=pod.metadata.uid, namespace="default", attempt=attempt
        )
        return cri_pb2.PodSandboxConfig(metadata=meta, labels=labels.pod_labels(pod)), []

    async def container(
        self,
        pod: Pod,
        container: Container,
        attempt: int,
        image: ImageState,
        sandbox: SandboxRecord,
    ) -> cri_pb2.ContainerConfig:
        self._enter(f"container {container.name}")
        return cri_pb2.ContainerConfig(
            metadata=cri_pb2.ContainerMetadata(name=container.name, attempt=attempt),
            labels=labels.container_labels(pod, container),
            annotations=labels.container_annotations(pod, container, attempt),
        )

    async def teardown(self, pod: Pod) -> None:
        self._enter("teardown")
        await self.unmounts.wait()

    def held_up(self, pod: Pod) -> str:
        return "unmounting volume data"

    async def purge(self, pod: Pod) -> None:
        self._enter("purge")

    async def forget_log(self, pod: Pod, path: str) -> None:
        self._enter("forget_log")


def tools(
    runtime: MemoryRuntime, environment: MemoryEnvironment, directory: Path, http: HttpClient
) -> Tools:
    """Return what workers share, all of it on ``runtime``."""
    cri = cast(CriClient, cast(Any, runtime))
    recorder = Recorder("n1")
    return Tools(
        cri=cri,
        observer=Observer(runtime),
        environment=environment,
        images=Images(runtime, recorder),
        check=Checker(runtime, http),
        hooks=Hooks(runtime, http),
        recorder=recorder,
        checkpoints=Checkpoints(directory),
        node=Node(("127.0.0.1",), "memory"),
    )
