"""Clients that do everything at once, and remember what they were promised.

Each call is noted before it is made and once more when it was answered; so after a SIGKILL of the
daemon every pod and container has a set of states that it may be in, and usually only one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services

SECONDS: Final = 60.0
BURST_LINES: Final = 40
BURST_CODE: Final = 17
TERM_CODE: Final = 3
PODS_OF_A_CLIENT: Final = 3

# One process, no forks: `read` on a pipe that nobody writes to is the pause.
_PAUSE: Final = "mkfifo /tmp/pause; exec 3<>/tmp/pause; "
_SCRIPTS: Final = {
    "burst": f"i=0; while [ $i -lt {BURST_LINES} ]; do echo $i; i=$((i+1)); done; "
    f"exit {BURST_CODE}",
    "sleeper": f"{_PAUSE}trap 'exit {TERM_CODE}' TERM; echo up; "
    "while :; do read -t 1000 -u 3 x; done",
    "witness": f"{_PAUSE}i=0; while :; do echo $i; i=$((i+1)); read -t 0.01 -u 3 x; done",
    "sums": "cd /data && sha256sum -cs sums",
}


@dataclass(eq=False)
class ContainerFact:
    """What one client knows of a container.

    Attributes:
        kind: which script it runs.
        doing: ``create``, ``start``, ``stop`` or ``remove`` while such a call is unanswered.
        done: the last of these that was answered.
        pid: of its process, once somebody looked.
        code: its exit code, once that was listed; -1 before.
        ending: a stop or removal was not answered, and may end it yet.
    """

    name: str
    kind: str
    log: Path
    id: str = ""
    doing: str = ""
    done: str = ""
    pid: int = 0
    code: int = -1
    ending: bool = False


@dataclass(eq=False)
class PodFact:
    """What one client knows of a pod; ``doing`` and ``done`` as above (``run`` for ``create``)."""

    name: str
    config: cri.PodSandboxConfig
    id: str = ""
    doing: str = ""
    done: str = ""
    containers: list[ContainerFact] = field(default_factory=list)


class Gone(Exception):
    """The daemon was killed while a call was under way."""


class SpawnerDied(Exception):
    """The spawner was killed while it made a pod, of which nothing may be left."""


async def ask(call: Awaitable[object]) -> object:
    """Await a call; every error but the daemon's death is one.

    Raises:
        Gone: the daemon died.
        SpawnerDied: its spawner did.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise Gone from None
        if "spawner" in str(error.details()):
            raise SpawnerDied from None
        raise AssertionError(f"{error.code().name}: {error.details()}") from None


class Client:
    """One client: its pods, and what it does next.

    Args:
        name: unlike that of any other client.
        random: decides.
        image: a reference that is always there.
        logs: directory for the pods' logs.
        ports: host ports of its own.
    """

    def __init__(
        self, name: str, random: random.Random, image: str, logs: Path, ports: range
    ) -> None:
        self.name = name
        self.pods: list[PodFact] = []
        self._random = random
        self._image = image
        self._logs = logs
        self._ports = ports
        self._numbers = itertools.count(1)
        self.runtime: services.RuntimeServiceAsyncStub

    async def work(self) -> None:
        """Go on until the daemon is gone."""
        try:
            while True:
                await self.step()
        except Gone:
            return

    async def step(self) -> None:
        """Do one thing."""
        if len(self.pods) < PODS_OF_A_CLIENT:
            await self.run_some_pod()
            return
        pod = self._random.choice(self.pods)
        if pod.done == "stop" or self._random.random() < 0.15:
            await self.remove_pod(pod)
        elif self._random.random() < 0.1:
            await self._stop_pod(pod)
        elif len(pod.containers) < 3:
            await self._create(pod)
        else:
            await self._next(pod, self._random.choice(pod.containers))

    async def run_pod(self, config: cri.PodSandboxConfig) -> PodFact:
        """Make a pod."""
        pod = PodFact(config.metadata.name, config, doing="run")
        self.pods.append(pod)
        answer = await ask(
            self.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=config), timeout=SECONDS)
        )
        pod.id = answer.pod_sandbox_id  # type: ignore[attr-defined]
        pod.doing, pod.done = "", "run"
        return pod

    async def create(self, pod: PodFact, kind: str, image: str = "") -> ContainerFact:
        """Make a container that runs the script ``kind``."""
        name = f"{kind}{next(self._numbers)}"
        log = Path(pod.config.log_directory) / f"{name}.log"
        container = ContainerFact(name, kind, log, doing="create")
        pod.containers.append(container)
        options = pod.config.linux.security_context.namespace_options
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name),
            image=cri.ImageSpec(image=image or self._image),
            command=["sh", "-c", _SCRIPTS[kind]],
            log_path=log.name,
            linux=cri.LinuxContainerConfig(
                security_context=cri.LinuxContainerSecurityContext(namespace_options=options)
            ),
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=pod.id, config=config)
        answer = await ask(self.runtime.CreateContainer(request, timeout=SECONDS))
        container.id = answer.container_id  # type: ignore[attr-defined]
        container.doing, container.done = "", "create"
        return container

    async def start(self, container: ContainerFact) -> None:
        """Start a container."""
        request = cri.StartContainerRequest(container_id=container.id)
        await self._do(container, "start", lambda: self.runtime.StartContainer(
            request, timeout=SECONDS))  # fmt: skip

    async def stop(self, container: ContainerFact, timeout: int) -> None:
        """Stop a container."""
        request = cri.StopContainerRequest(container_id=container.id, timeout=timeout)
        await self._do(container, "stop", lambda: self.runtime.StopContainer(
            request, timeout=SECONDS))  # fmt: skip

    async def remove(self, pod: PodFact, container: ContainerFact) -> None:
        """Remove a container."""
        request = cri.RemoveContainerRequest(container_id=container.id)
        await self._do(container, "remove", lambda: self.runtime.RemoveContainer(
            request, timeout=SECONDS))  # fmt: skip
        pod.containers.remove(container)

    async def remove_pod(self, pod: PodFact) -> None:
        """Stop, mostly, and remove a pod."""
        if self._random.random() < 0.7:
            await self._stop_pod(pod)
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=pod.id)
        await self._do(pod, "remove", lambda: self.runtime.RemovePodSandbox(
            request, timeout=SECONDS))  # fmt: skip
        self.pods.remove(pod)

    async def _stop_pod(self, pod: PodFact) -> None:
        request = cri.StopPodSandboxRequest(pod_sandbox_id=pod.id)
        await self._do(pod, "stop", lambda: self.runtime.StopPodSandbox(request, timeout=SECONDS))

    async def _do(
        self, fact: PodFact | ContainerFact, what: str, call: Callable[[], Awaitable[object]]
    ) -> None:
        fact.doing = what
        await ask(call())
        fact.doing, fact.done = "", what

    async def run_some_pod(self) -> None:
        """Make a pod; none if the spawner is killed meanwhile."""
        number = next(self._numbers)
        name = f"{self.name}-{number}"
        pid = self._random.choice((cri.POD, cri.CONTAINER))
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="turmoil"),
            hostname=name,
            log_directory=str(self._logs / name),
            linux=cri.LinuxPodSandboxConfig(
                security_context=cri.LinuxSandboxSecurityContext(
                    namespace_options=cri.NamespaceOption(pid=pid)
                )
            ),
        )
        if self._random.random() < 0.3:
            taken = {m.host_port for pod in self.pods for m in pod.config.port_mappings}
            port = self._random.choice(sorted(set(self._ports) - taken))
            config.port_mappings.add(container_port=80, host_port=port)
        try:
            await self.run_pod(config)
        except SpawnerDied:
            del self.pods[-1]

    async def _create(self, pod: PodFact) -> None:
        container = await self.create(pod, self._random.choice(("burst", "sleeper")))
        if self._random.random() < 0.8:
            await self.start(container)

    async def _next(self, pod: PodFact, container: ContainerFact) -> None:
        if container.done == "create" and self._random.random() < 0.5:
            await self.start(container)
        elif container.done == "start" and self._random.random() < 0.7:
            await self.stop(container, self._random.choice((0, 10)))
        else:
            await self.remove(pod, container)


class Puller:
    """Pulls and removes images, and has containers check what is in them.

    Attributes:
        client: makes the pods of the checks.
        references: the images; each is some layers with a directory ``/data`` and its sums.
        present: what was promised about each image: True, False, or None if it may be either.
    """

    def __init__(self, client: Client, random: random.Random, references: list[str]) -> None:
        self.client = client
        self.references = references
        self.present: dict[str, bool | None] = dict.fromkeys(references, False)
        self._random = random
        self.images: services.ImageServiceAsyncStub

    async def work(self) -> None:
        """Go on until the daemon is gone."""
        try:
            while True:
                await self.step()
        except Gone:
            return

    async def step(self) -> None:
        """Pull one, check it at times, remove it at times."""
        reference = self._random.choice(self.references)
        spec = cri.ImageSpec(image=reference)
        was, self.present[reference] = self.present[reference], None
        await ask(self.images.PullImage(cri.PullImageRequest(image=spec), timeout=SECONDS))
        self.present[reference] = True
        if was is None or self._random.random() < 0.2:
            await self._check(reference)
        if self._random.random() < 0.6:
            self.present[reference] = None
            await ask(self.images.RemoveImage(cri.RemoveImageRequest(image=spec), timeout=SECONDS))
            self.present[reference] = False

    async def _check(self, reference: str) -> None:
        client = self.client
        for pod in list(client.pods):
            await client.remove_pod(pod)
        await client.run_some_pod()
        if not client.pods:
            return
        [pod] = client.pods
        container = await client.create(pod, "sums", reference)
        await client.start(container)
        request = cri.ContainerStatusRequest(container_id=container.id)
        while True:
            status = await ask(client.runtime.ContainerStatus(request, timeout=SECONDS))
            if status.status.state == cri.CONTAINER_EXITED:  # type: ignore[attr-defined]
                break
            await asyncio.sleep(0.005)
        assert status.status.exit_code == 0, f"{reference} is damaged"  # type: ignore[attr-defined]
        await client.remove_pod(pod)
