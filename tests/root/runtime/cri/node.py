"""A whole runtime for tests: the real daemon as a process of its own, in a network of its own.

Nothing of it touches the machine's network: daemon and registry live in a new network namespace,
and the Unix socket crosses namespaces.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from kubeletpy_common.cgroups import Hierarchy, detect
from kubeletpy_common.cgroups.systemd import open_systemd, scope_path
from kubeletpy_common.cgroups.systemd.names import child_slice
from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.namespaces import CLONE_NEWNET, in_namespace, unshare
from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services
from tests.support.circumstances import CGROUP_DRIVER, patient
from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry

BOOT_SECONDS = 30.0
CALL_SECONDS = patient(60)
OURS = (sys.executable, "-m", "runtime")
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")


@dataclass(frozen=True)
class Place:
    """Where one test module's runtime lives, under names that nobody else has."""

    directory: Path
    token: str = field(default_factory=lambda: secrets.token_hex(3))
    driver: str = CGROUP_DRIVER

    @property
    def bridge(self) -> str:
        return f"kt{self.token}"

    @property
    def cgroup(self) -> str:
        return self.cgroup_of(f"kt{self.token}")

    def cgroup_of(self, name: str) -> str:
        """Return the path of a cgroup at the top that this driver would make."""
        return f"/{name}.slice" if self.driver == "systemd" else f"/{name}"

    def hierarchy(self) -> Hierarchy:
        """Return the machine's cgroups by this driver."""
        return open_systemd(detect()) if self.driver == "systemd" else detect()

    def pod_cgroup(self, sandbox: str) -> str:
        """Return the path of a pod's cgroup that is the runtime's own."""
        if self.driver == "systemd":
            return child_slice(self.cgroup, f"pod{sandbox}")
        return f"{self.cgroup}/{sandbox}"

    def container_cgroup(self, sandbox: str, container: str) -> str:
        """Return the path of the cgroup of a container in such a pod."""
        pod = self.pod_cgroup(sandbox)
        if self.driver == "systemd":
            return scope_path(pod, "kubeletpy", container)
        return f"{pod}/{container}"

    @property
    def netns(self) -> Path:
        return self.directory / "netns"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def socket(self) -> Path:
        return self.directory / "runtime.sock"

    def write_config(self, extra: str = "") -> Path:
        path = self.directory / "runtime.toml"
        # Keys of no table come before the first table (TOML).
        top, bracket, tables = extra.partition("[")
        path.write_text(
            f'{top}address = "unix://{self.socket}"\nroot = "{self.root}"\nstate = "{self.state}"\n'
            'log_level = "debug"\n'
            f'[network]\nbridge = "{self.bridge}"\n'
            'subnet_v4 = "10.87.0.0/24"\nsubnet_v6 = "fd87::/64"\n'
            f'[cgroups]\ndriver = "{self.driver}"\nparent = "{self.cgroup}"\n{bracket}{tables}'
        )
        return path


@contextmanager
def network_namespace(path: Path) -> Iterator[None]:
    """Pin a new network namespace, loopback up, at ``path``."""
    path.touch()

    def make() -> None:
        unshare(CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        mounts.mount("/proc/thread-self/ns/net", path, None, mounts.MS_BIND)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    try:
        yield
    finally:
        mounts.umount(path, mounts.MNT_DETACH)
        path.unlink()


class Daemon:
    """The process ``python -m runtime``, or that of another program for it."""

    def __init__(self, place: Place, config: Path, program: Sequence[str] = OURS) -> None:
        self.place = place
        self._program = program
        self.log_path = place.directory / "runtime.log"
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with open(self.log_path, "ab") as log:
            position = log.tell()
            self._process = subprocess.Popen(
                ["nsenter", f"--net={self.place.netns}", *self._program,
                 "--config", str(self._config)],
                stdin=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        wait_until(
            lambda: self._says_ready(position) or self._process_ended(),
            "the daemon to be ready", BOOT_SECONDS,
        )  # fmt: skip
        if self._process_ended():
            raise RuntimeError(f"the daemon ended at its start:\n{self.log()[-3000:]}")

    def _says_ready(self, position: int) -> bool:
        with open(self.log_path, "rb") as log:
            log.seek(position)
            return b'"msg": "ready"' in log.read()

    def _process_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def running(self) -> bool:
        return not self._process_ended()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(patient(10))

    def stop(self) -> int:
        """End it politely; returns its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patient(30))

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""


class Node:
    """A running runtime, an image in it, and shorthands for its calls."""

    def __init__(self, place: Place, daemon: Daemon, registry: str) -> None:
        self.place = place
        self.daemon = daemon
        self.registry = registry
        self.image = ""
        self._names = itertools.count(1)
        self._channel: grpc.Channel | None = None
        self.connect()

    def connect(self) -> None:
        """Connect to the daemon, anew after a restart of it."""
        self.disconnect()
        self._channel = grpc.insecure_channel(f"unix://{self.place.socket}")
        self.runtime = services.RuntimeServiceStub(self._channel)
        self.images = services.ImageServiceStub(self._channel)

    def disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def restart(self) -> None:
        """Kill the daemon without a word and start it again."""
        self.daemon.kill()
        self.daemon.start()
        self.connect()

    def push(self, name: str, files: Any = None, **config: Any) -> str:
        """Push a busybox image with ``files`` to the registry; returns its reference."""
        with in_namespace(self.place.netns):
            push(busybox_image(files, config=config), self.registry, name, "v1")
        return f"{self.registry}/{name}:v1"

    def pull(self, reference: str) -> str:
        request = cri.PullImageRequest(image=cri.ImageSpec(image=reference))
        return self.images.PullImage(request, timeout=CALL_SECONDS).image_ref

    # Pods.

    def pod_config(
        self,
        name: str = "",
        *,
        namespaces: cri.NamespaceOption | None = None,
        privileged: bool = False,
        **fields: Any,
    ) -> cri.PodSandboxConfig:
        name = name or f"pod{next(self._names)}"
        linux = cri.LinuxPodSandboxConfig(
            cgroup_parent=fields.pop("cgroup_parent", ""),
            sysctls=fields.pop("sysctls", {}),
            security_context=cri.LinuxSandboxSecurityContext(
                namespace_options=namespaces or cri.NamespaceOption(pid=cri.CONTAINER),
                privileged=privileged,
            ),
        )
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=f"{name}-uid", namespace="tests"),
            linux=linux,
            **{
                "hostname": name,
                "log_directory": str(self.place.directory / "logs" / name),
                **fields,
            },
        )

    def run_pod(self, config: cri.PodSandboxConfig | None = None, **fields: Any) -> str:
        config = config or self.pod_config(**fields)
        request = cri.RunPodSandboxRequest(config=config)
        return self.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id

    @contextmanager
    def pod(self, **fields: Any) -> Iterator[str]:
        """A pod that is removed behind the block."""
        sandbox = self.run_pod(**fields)
        try:
            yield sandbox
        finally:
            self.remove_pod(sandbox)

    def pod_status(self, sandbox: str) -> cri.PodSandboxStatus:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        return self.runtime.PodSandboxStatus(request, timeout=CALL_SECONDS).status

    def stop_pod(self, sandbox: str) -> None:
        request = cri.StopPodSandboxRequest(pod_sandbox_id=sandbox)
        self.runtime.StopPodSandbox(request, timeout=CALL_SECONDS)

    def remove_pod(self, sandbox: str) -> None:
        self.stop_pod(sandbox)
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
        self.runtime.RemovePodSandbox(request, timeout=CALL_SECONDS)

    # Containers.

    def container_config(
        self,
        *command: str,
        name: str = "main",
        resources: Mapping[str, Any] | None = None,
        security: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> cri.ContainerConfig:
        options = {"namespace_options": cri.NamespaceOption(pid=cri.CONTAINER)}
        return cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name),
            command=command,
            envs=[cri.KeyValue(key=k, value=v.encode()) for k, v in (env or {}).items()],
            linux=cri.LinuxContainerConfig(
                resources=cri.LinuxContainerResources(**(resources or {})),
                security_context=cri.LinuxContainerSecurityContext(**{**options,
                                                                      **(security or {})}),
            ),
            **{"image": cri.ImageSpec(image=self.image), "log_path": f"{name}.log", **fields},
        )  # fmt: skip

    def create(self, sandbox: str, config: cri.ContainerConfig) -> str:
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config)
        return self.runtime.CreateContainer(request, timeout=CALL_SECONDS).container_id

    def start(self, container: str) -> None:
        request = cri.StartContainerRequest(container_id=container)
        self.runtime.StartContainer(request, timeout=CALL_SECONDS)

    def run(self, sandbox: str, *command: str, **fields: Any) -> str:
        """Create and start a container."""
        container = self.create(sandbox, self.container_config(*command, **fields))
        self.start(container)
        return container

    def stop(self, container: str, timeout: int = 0) -> None:
        request = cri.StopContainerRequest(container_id=container, timeout=timeout)
        self.runtime.StopContainer(request, timeout=CALL_SECONDS)

    def remove(self, container: str) -> None:
        request = cri.RemoveContainerRequest(container_id=container)
        self.runtime.RemoveContainer(request, timeout=CALL_SECONDS)

    def status(self, container: str) -> cri.ContainerStatus:
        request = cri.ContainerStatusRequest(container_id=container)
        return self.runtime.ContainerStatus(request, timeout=CALL_SECONDS).status

    def exec(self, container: str, *command: str, timeout: int = 20) -> cri.ExecSyncResponse:
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        return self.runtime.ExecSync(request, timeout=CALL_SECONDS)

    def shell(self, container: str, script: str) -> str:
        """Run a script in a container; it must succeed. Returns its output, stripped."""
        result = self.exec(container, "sh", "-c", script)
        assert result.exit_code == 0, result
        return result.stdout.decode().strip()

    def wait_heeding(self, container: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Wait until a container's first process has set what it does at a signal.

        Before that the kernel drops the signal: the process is the first of its namespace.
        """
        request = cri.ContainerStatusRequest(container_id=container, verbose=True)
        answer = self.runtime.ContainerStatus(request, timeout=CALL_SECONDS)
        status = Path(f"/proc/{json.loads(answer.info['info'])['pid']}/status")

        def heeds() -> bool:
            [caught] = re.findall(r"^SigCgt:\s*(\w+)$", status.read_text(), re.MULTILINE)
            return bool(int(caught, 16) >> (number - 1) & 1)

        wait_until(heeds, f"{container} to heed {number.name}", 20)

    def wait_exited(self, container: str, timeout: float = 30) -> cri.ContainerStatus:
        """Wait for the container's end, by the events of the runtime."""
        with self.events() as events:
            status = self.status(container)
            deadline = time.monotonic() + patient(timeout)
            while status.state != cri.CONTAINER_EXITED:
                assert time.monotonic() < deadline, f"{container} did not end: {status}"
                event = next(events)
                if event.container_event_type == cri.CONTAINER_STOPPED_EVENT:
                    status = self.status(container)
        return status

    def run_to_end(self, sandbox: str, *command: str, **fields: Any) -> cri.ContainerStatus:
        return self.wait_exited(self.run(sandbox, *command, **fields))

    def output(self, status: cri.ContainerStatus) -> str:
        """Return what a container wrote, from its CRI log."""
        lines = Path(status.log_path).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    @contextmanager
    def events(self) -> Iterator[Any]:
        """Subscribe to events; the block begins once the subscription holds."""
        call = self.runtime.GetContainerEvents(cri.GetEventsRequest(), timeout=CALL_SECONDS)
        # The first metadata is sent when the handler runs, which is when the queue exists.
        call.initial_metadata()
        try:
            yield call
        finally:
            call.cancel()

    def cgroup_file(self, path: str, controller: str, name: str) -> Path:
        """Return a control file of a cgroup, on v1 or v2."""
        v1 = Path("/sys/fs/cgroup") / controller
        base = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
        return base / path.lstrip("/") / name


def wait_until(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Wait for something that has no event to wait for."""
    deadline = time.monotonic() + patient(timeout)
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        select.select([], [], [], 0.01)


def wait_process_end(pid: int, timeout: float = 10) -> None:
    """Wait until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], patient(timeout))
        assert ready, f"process {pid} did not end within {timeout:g} s"
    finally:
        os.close(descriptor)


def refused(call: Callable[[], object]) -> grpc.RpcError:
    """Return the error that ``call`` fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


@contextmanager
def running_node(place: Place, extra: str = "", program: Sequence[str] = OURS) -> Iterator[Node]:
    """A registry and a daemon in a network namespace of their own, and a busybox image pulled."""
    with network_namespace(place.netns):
        registry_directory = place.directory / "registry"
        registry_directory.mkdir()
        daemon = Daemon(place, place.write_config(extra), program)
        with in_namespace(place.netns):
            registry = DockerRegistry(registry_directory)
            registry.__enter__()
        try:
            daemon.start()
            node = Node(place, daemon, registry.host)
            try:
                node.image = node.pull(node.push("tests/busybox"))
                yield node
            finally:
                remove_all(node)
                node.disconnect()
        finally:
            code = daemon.stop()
            registry.stop()
        assert code == 0, daemon.log()[-3000:]


def remove_all(node: Node) -> None:
    """Remove every pod, whatever its test left."""
    items: Sequence[cri.PodSandbox] = node.runtime.ListPodSandbox(
        cri.ListPodSandboxRequest(), timeout=CALL_SECONDS
    ).items
    for item in items:
        node.remove_pod(item.id)
