"""A pod with one container, as every part runs it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.peers import Peer
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy_proto import cri_pb2 as cri

# A shell that ends at SIGTERM at once.
COMMAND = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait")


@dataclass(frozen=True)
class Pod:
    """What is asked for."""

    sandbox: cri.PodSandboxConfig
    container: cri.ContainerConfig


def pod(peer: Peer, image: str) -> Pod:
    """Return a new pod, below the peer's cgroup."""
    name = f"pod{secrets.token_hex(4)}"
    sandbox = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=secrets.token_hex(8), namespace="bench"),
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=peer.pod_cgroup(name)),
    )
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=image),
        command=list(COMMAND),
        linux=cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(cpu_shares=256)),
    )
    return Pod(sandbox, container)


async def run(client: CriClient, wanted: Pod) -> tuple[str, str]:
    """Start it; returns the ids of sandbox and container."""
    sandbox = await client.run_pod_sandbox(wanted.sandbox)
    container = await client.create_container(sandbox, wanted.container, wanted.sandbox)
    await client.start_container(container)
    return sandbox, container


async def remove_all(client: CriClient) -> None:
    """Remove every pod of the runtime."""
    for sandbox in await client.list_pod_sandboxes():
        with suppress(CriError):
            await client.stop_pod_sandbox(sandbox.id)
        await client.remove_pod_sandbox(sandbox.id)
