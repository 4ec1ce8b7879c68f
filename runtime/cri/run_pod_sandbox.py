"""RunPodSandbox: namespaces, a shim and a network for a pod, or nothing at all."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path

from kubeletpy_common.logs import event
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.cgroups import make_cgroup, pod_path
from runtime.cri.handlers import choose_handler
from runtime.cri.lifecycle import connect, publish
from runtime.cri.runtime import Runtime
from runtime.cri.sandbox_config import SandboxNeeds, read_sandbox_config
from runtime.cri.teardown import destroy_pod
from runtime.handlers.external import ExternalRuntime
from runtime.shim.messages import PROTOCOL, SandboxSpec
from runtime.spawner.client import SpawnError
from runtime.state import records
from runtime.state.records import SandboxRecord, SandboxState
from runtime.state.store import Pod, sandbox_name

HOST_RESOLV_CONF = Path("/etc/resolv.conf")
HOST_HOSTS = Path("/etc/hosts")
_MAX_FILE = 1 << 20

_log = logging.getLogger("runtime.cri")


async def run_pod_sandbox(
    runtime: Runtime, request: cri.RunPodSandboxRequest
) -> cri.RunPodSandboxResponse:
    """Make and start a pod sandbox.

    Raises:
        InvalidRequestError, SysctlError, TranslationError: the request.
        UnknownHandlerError, MissingProgramError: its runtime handler.
        NameTakenError: a sandbox with this name, namespace, uid and attempt exists.
        SpawnError, NetworkError, CgroupError, OSError: it could not be made; nothing is left.
    """
    config = request.config
    needs = read_sandbox_config(config, runtime.host, runtime.config.sysctls)
    external = await choose_handler(runtime, request.runtime_handler, needs)
    if not needs.own_uts and config.hostname not in ("", runtime.host.hostname):
        event(_log, logging.WARNING, "a pod in the host's network has the host's name: the one it "
              "asks for is told in its /etc/hostname and $HOSTNAME alone, as with containerd",
              pod=config.metadata.name, hostname=config.hostname)  # fmt: skip
    pod = runtime.store.add_pod(_new_record(runtime, request, external), config)
    async with pod.lock, AsyncExitStack() as undo:
        undo.push_async_callback(destroy_pod, runtime, pod)
        await _make(runtime, pod, needs)
        undo.pop_all()
    publish(runtime, pod, pod.id, cri.CONTAINER_CREATED_EVENT)
    publish(runtime, pod, pod.id, cri.CONTAINER_STARTED_EVENT)
    return cri.RunPodSandboxResponse(pod_sandbox_id=pod.id)


def _new_record(
    runtime: Runtime, request: cri.RunPodSandboxRequest, external: ExternalRuntime | None
) -> SandboxRecord:
    sandbox_id = secrets.token_hex(32)
    linux = request.config.linux
    path = pod_path(runtime.config.cgroups, linux.cgroup_parent, sandbox_id)
    return SandboxRecord(
        id=sandbox_id,
        name=sandbox_name(request.config.metadata),
        state=SandboxState.CREATING,
        created_at=time.time_ns(),
        boot_id=runtime.boot_id,
        cgroup=path,
        cgroup_owned=not runtime.cgroups.cgroup(path).exists(),
        runtime_handler=request.runtime_handler,
        resources=linux.resources.SerializeToString(),
        overhead=linux.overhead.SerializeToString(),
        external=external,
        protocol=PROTOCOL,
    )


async def _make(runtime: Runtime, pod: Pod, needs: SandboxNeeds) -> None:
    # Containers go below this cgroup. The shim does not: it would count against the pod's memory
    # limit and could be what the OOM killer takes. It stays where the runtime's spawner is.
    owned = pod.record.cgroup_owned and pod.record.resources
    # That of a kubelet has its limits already; see update_pod_sandbox_resources.py.
    limits = needs.limits if owned else None
    await make_cgroup(runtime.cgroups.cgroup(pod.record.cgroup), limits)
    directory = runtime.sandbox_directory(pod.id)
    directory.mkdir(mode=0o700)
    _write_files(directory, needs)
    process = await runtime.spawner.spawn_sandbox(
        SandboxSpec(
            sandbox_id=pod.id,
            directory=directory,
            hostname=needs.hostname,
            new_network=needs.own_network,
            new_ipc=needs.own_ipc,
            new_uts=needs.own_uts,
            shared_pid=needs.shared_pid,
            sysctls=needs.sysctls,
            shm_size=runtime.config.limits.shm_bytes,
            uid_mappings=needs.uid_mappings,
            gid_mappings=needs.gid_mappings,
            external=pod.record.external is not None,
        ),
        timeout=runtime.config.limits.sandbox_seconds,
    )
    namespaces = {name: str(path) for name, path in process.namespaces.items()}
    runtime.store.update_pod(
        pod, records.with_process(pod.record, shim_pid=process.shim_pid, namespaces=namespaces)
    )
    await connect(runtime, pod)
    ips: list[str] = []
    if needs.own_network:
        attached = await runtime.network.attach(pod.id, process.namespaces["network"], needs.facts)
        ips = attached.ips
    if pod.shim is None:
        raise SpawnError(f"sandbox {pod.id}: its shim died while its network was attached")
    runtime.store.update_pod(pod, records.ready(pod.record, ips=list(ips)))


def _write_files(directory: Path, needs: SandboxNeeds) -> None:
    """Write what containers see as /etc/hostname, /etc/hosts and /etc/resolv.conf.

    /etc/hosts is a copy of the host's, as with containerd; a kubelet mounts one of its own.
    """
    resolv = needs.resolv_conf
    content = _read_host_file(HOST_RESOLV_CONF) if resolv is None else resolv.encode()
    _write_public(directory / "resolv.conf", content)
    _write_public(directory / "hosts", _read_host_file(HOST_HOSTS))
    _write_public(directory / "hostname", f"{needs.hostname or socket.gethostname()}\n".encode())


def _read_host_file(path: Path) -> bytes:
    """Return a file of the host; empty if there is none, cut after a line where it is too long."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(_MAX_FILE)
            return content if not stream.read(1) else content[: content.rfind(b"\n") + 1]
    except FileNotFoundError:
        return b""


def _write_public(path: Path, content: bytes) -> None:
    # Users of the container read these, whatever the daemon's umask is; new, so needs no rename.
    path.write_bytes(content)
    os.chmod(path, 0o644)
