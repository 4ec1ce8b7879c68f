"""Pod -> PodSandboxConfig (pure), as the Go kubelet 1.36 builds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubeletpy.api.container import ContainerPort
from kubeletpy.api.pod import Pod
from kubeletpy.resources.totals import pod_limits, pod_requests
from kubeletpy_proto import cri_pb2

from .dns import dns_config
from .hostname import kernel_hostname
from .labels import pod_labels
from .node import NodeFacts
from .resources import sandbox_resources
from .security import sandbox_security

_SWAPPED = str.maketrans("./", "/.")
PROTOCOLS = {"TCP": cri_pb2.TCP, "UDP": cri_pb2.UDP, "SCTP": cri_pb2.SCTP}


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """A sandbox to run.

    Attributes:
        config: for RunPodSandbox, CreateContainer and PullImage.
        warnings: messages for events (reason DNSConfigForming).
    """

    config: cri_pb2.PodSandboxConfig
    warnings: list[str]


def pod_log_directory(pod: Pod, node: NodeFacts) -> Path:
    """Return the directory of a pod's logs; the runtime's log paths are relative to it."""
    meta = pod.metadata
    return node.pod_logs / f"{meta.namespace}_{meta.name}_{meta.uid}"


def sandbox_config(
    pod: Pod,
    node: NodeFacts,
    *,
    attempt: int = 0,
    cgroup_parent: str = "",
    ids: tuple[int, int] | None = None,
) -> SandboxPlan:
    """Translate ``pod`` into a sandbox.

    Args:
        pod: with defaults filled in, and with a uid.
        node: facts of the node.
        attempt: number of this sandbox among those of the pod.
        cgroup_parent: the pod's cgroup.
        ids: those of its own user namespace on the node: the first one and their number.

    Raises:
        ConfigError: the host name would be too long.
    """
    dns, warnings = dns_config(pod, node)
    context = pod.spec.security_context
    config = cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            uid=pod.metadata.uid,
            attempt=attempt,
        ),
        hostname="" if pod.spec.host_network else kernel_hostname(pod, node),
        log_directory=str(pod_log_directory(pod, node)),
        dns_config=dns,
        port_mappings=_port_mappings(pod),
        labels=pod_labels(pod),
        annotations=pod.metadata.annotations,
        linux=cri_pb2.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent,
            security_context=sandbox_security(pod, ids),
            sysctls={
                sysctl_name(each.name): each.value for each in (context.sysctls if context else [])
            },
            overhead=sandbox_resources(pod.spec.overhead, pod.spec.overhead),
            resources=sandbox_resources(pod_requests(pod), pod_limits(pod)),
        ),
    )
    return SandboxPlan(config, warnings)


def sysctl_name(name: str) -> str:
    """Return the name of a sysctl with dots between its parts, whichever way it is written.

    Where slashes stand between the parts, a dot is part of a name: ``net/ipv4/conf/eno2.100/x``.
    """
    separator = next((one for one in name if one in "./"), ".")
    return name.translate(_SWAPPED) if separator == "/" else name


def _port_mappings(pod: Pod) -> list[cri_pb2.PortMapping]:
    # In the node's own network there is nothing to map.
    if pod.spec.host_network:
        return []
    containers = [
        *(each for each in pod.spec.init_containers if each.restart_policy == "Always"),
        *pod.spec.containers,
    ]
    return [_port_mapping(port) for each in containers for port in each.ports if port.host_port]


def _port_mapping(port: ContainerPort) -> cri_pb2.PortMapping:
    return cri_pb2.PortMapping(
        protocol=PROTOCOLS[port.protocol or "TCP"],
        container_port=port.container_port,
        host_port=port.host_port,
        host_ip=port.host_ip,
    )
