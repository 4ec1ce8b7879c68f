"""Debian's containerd as another runtime for tests, in directories and a network of its own."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services
from tests.root.runtime.cri.node import BOOT_SECONDS, CALL_SECONDS, network_namespace, wait_until
from tests.support.circumstances import patient
from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry

_SHIMS = Path("/run/containerd")
_CONFIG = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


class Containerd:
    """The running daemon, one pod with one container, and where it is."""

    def __init__(self, directory: Path, socket: Path, image: str) -> None:
        self.netns = directory / "netns"
        self.socket = socket
        self.cgroup = f"kp{secrets.token_hex(3)}"
        self.image = image
        self._directory = directory
        self._channel = grpc.insecure_channel(
            f"unix://{socket}", options=[("grpc.default_authority", "localhost")]
        )
        self.runtime = services.RuntimeServiceStub(self._channel)
        self.images = services.ImageServiceStub(self._channel)

    def close(self) -> None:
        """Remove all pods, and disconnect."""
        request = cri.ListPodSandboxRequest()
        for pod in self.runtime.ListPodSandbox(request, timeout=CALL_SECONDS).items:
            stop = cri.StopPodSandboxRequest(pod_sandbox_id=pod.id)
            self.runtime.StopPodSandbox(stop, timeout=CALL_SECONDS)
            remove = cri.RemovePodSandboxRequest(pod_sandbox_id=pod.id)
            self.runtime.RemovePodSandbox(remove, timeout=CALL_SECONDS)
        for path in Path("/sys/fs/cgroup").glob(f"**/{self.cgroup}"):
            path.rmdir()
        self._channel.close()

    def pull(self) -> None:
        request = cri.PullImageRequest(image=cri.ImageSpec(image=self.image))
        self.images.PullImage(request, timeout=CALL_SECONDS)

    def run(self, name: str, *command: str, tty: bool = False) -> str:
        """Run a container in a pod of its own, on the network of the daemon."""
        options = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
        pod = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="peer"),
            log_directory=str(self._directory / "logs" / name),
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=f"/{self.cgroup}",
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=options),
            ),
        )
        sandbox = self.runtime.RunPodSandbox(
            cri.RunPodSandboxRequest(config=pod), timeout=CALL_SECONDS
        ).pod_sandbox_id
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=f"{name}-main"),
            image=cri.ImageSpec(image=self.image),
            command=command,
            log_path="main.log",
            linux=cri.LinuxContainerConfig(
                security_context=cri.LinuxContainerSecurityContext(namespace_options=options)
            ),
        )
        create = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=pod
        )
        container = self.runtime.CreateContainer(create, timeout=CALL_SECONDS).container_id
        start = cri.StartContainerRequest(container_id=container)
        self.runtime.StartContainer(start, timeout=CALL_SECONDS)
        return container


@contextmanager
def running_containerd(directory: Path) -> Iterator[Containerd]:
    """Run containerd and a registry, with an image pulled."""
    with network_namespace(directory / "netns"), _own_run_directory():
        (directory / "registry").mkdir()
        with in_namespace(directory / "netns"):
            registry = DockerRegistry(directory / "registry")
            registry.__enter__()
            push(busybox_image(config={"Cmd": ["sleep", "1000"]}), registry.host, "peer", "v1")
        try:
            yield from _running(directory, f"{registry.host}/peer:v1")
        finally:
            registry.stop()


@contextmanager
def _own_run_directory() -> Iterator[None]:
    """Remove the directory of the shims' sockets behind the block, if nobody else's is there."""
    there = _SHIMS.exists()
    try:
        yield
    finally:
        if not there:
            shutil.rmtree(_SHIMS, ignore_errors=True)


def _running(directory: Path, image: str) -> Iterator[Containerd]:
    socket, config = directory / "containerd.sock", directory / "config.toml"
    config.write_text(_CONFIG.format(directory=directory, socket=socket, image=image))
    log = directory / "containerd.log"
    with open(log, "wb") as output, in_namespace(directory / "netns"):
        process = subprocess.Popen(
            ["containerd", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(
            lambda: b"containerd successfully booted" in log.read_bytes()
            or process.poll() is not None,
            "containerd", BOOT_SECONDS,
        )  # fmt: skip
        assert process.poll() is None, log.read_text()[-3000:]
        peer = Containerd(directory, socket, image)
        try:
            peer.pull()
            yield peer
        finally:
            peer.close()
    finally:
        process.terminate()
        process.wait(patient(30))
        _unmount_below(directory)


def _unmount_below(directory: Path) -> None:
    """Unmount what containerd leaves mounted at its end, such as the sandboxes' shm."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{directory}/state") or target.startswith(f"{directory}/root"):
            mounts.umount(target, mounts.MNT_DETACH)
