"""From records to CRI messages (pure, but for a look at the image store)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.signals import to_cri
from runtime.state.records import ContainerState, SandboxState
from runtime.state.store import Container, Pod

_STATES = {
    ContainerState.CREATING: cri.CONTAINER_CREATED,
    ContainerState.CREATED: cri.CONTAINER_CREATED,
    ContainerState.STARTING: cri.CONTAINER_CREATED,
    ContainerState.RUNNING: cri.CONTAINER_RUNNING,
    ContainerState.EXITED: cri.CONTAINER_EXITED,
}


class ImageNames(Protocol):
    """The names of an image."""

    @property
    def repo_tags(self) -> Sequence[str]:
        """``name:tag`` each."""
        ...

    @property
    def repo_digests(self) -> Sequence[str]:
        """``name@digest`` each."""
        ...


def container_state(container: Container) -> cri.ContainerState.ValueType:
    """Return the CRI state of a container."""
    return _STATES[container.record.state]


def sandbox_state(pod: Pod) -> cri.PodSandboxState.ValueType:
    """Return the CRI state of a pod."""
    return cri.SANDBOX_READY if pod.record.state is SandboxState.READY else cri.SANDBOX_NOTREADY


def visible(pod: Pod) -> bool:
    """Tell whether clients may see the pod: not while it is half made."""
    return pod.record.state is not SandboxState.CREATING


def visible_container(container: Container) -> bool:
    """Tell whether clients may see the container: not while it is half made."""
    return container.record.state is not ContainerState.CREATING


def list_item(container: Container) -> cri.Container:
    """Return a container as ListContainers shows it."""
    record, config = container.record, container.config
    return cri.Container(
        id=record.id,
        pod_sandbox_id=record.sandbox_id,
        metadata=config.metadata,
        image=config.image,
        image_ref=record.image_id,
        image_id=record.image_id,
        state=container_state(container),
        created_at=record.created_at,
        labels=config.labels,
        annotations=config.annotations,
    )


def container_status(container: Container, image: ImageNames | None) -> cri.ContainerStatus:
    """Return the full status of a container.

    As with containerd the image is shown by its first tag and the reference by its first digest,
    if it has them; by its id if not (or if the image was removed meanwhile).
    """
    record, config = container.record, container.config
    spec = cri.ImageSpec()
    spec.CopyFrom(config.image)
    reference = record.image_id
    if image is not None:
        spec.image = image.repo_tags[0] if image.repo_tags else spec.image
        reference = image.repo_digests[0] if image.repo_digests else reference
    status = cri.ContainerStatus(
        id=record.id,
        metadata=config.metadata,
        state=container_state(container),
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
        image=spec,
        image_ref=reference,
        image_id=record.image_id,
        reason=record.reason,
        message=record.message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=record.log_path,
        stop_signal=to_cri(record.stop_signal),
        user=cri.ContainerUser(
            linux=cri.LinuxContainerUser(
                uid=record.uid, gid=record.gid, supplemental_groups=record.groups
            )
        ),
    )
    if record.resources or config.linux.HasField("resources"):
        status.resources.linux.CopyFrom(current_resources(container))
    return status


def current_resources(container: Container) -> cri.LinuxContainerResources:
    """Return the limits of a container: those it was made with, or was given since."""
    if container.record.resources:
        return cri.LinuxContainerResources.FromString(container.record.resources)
    return container.config.linux.resources


def sandbox_item(pod: Pod) -> cri.PodSandbox:
    """Return a pod as ListPodSandbox shows it."""
    return cri.PodSandbox(
        id=pod.id,
        metadata=pod.config.metadata,
        state=sandbox_state(pod),
        created_at=pod.record.created_at,
        labels=pod.config.labels,
        annotations=pod.config.annotations,
        runtime_handler=pod.record.runtime_handler,
    )


def sandbox_status(pod: Pod) -> cri.PodSandboxStatus:
    """Return the full status of a pod.

    A stopped pod has no address any more, and one in the host's network has none of its own.
    """
    ips = pod.record.ips if pod.ready else []
    network = cri.PodSandboxNetworkStatus()
    if ips:
        network.ip = ips[0]
        network.additional_ips.extend(cri.PodIP(ip=ip) for ip in ips[1:])
    return cri.PodSandboxStatus(
        id=pod.id,
        metadata=pod.config.metadata,
        state=sandbox_state(pod),
        created_at=pod.record.created_at,
        network=network,
        linux=cri.LinuxPodSandboxStatus(
            namespaces=cri.Namespace(options=pod.config.linux.security_context.namespace_options)
        ),
        labels=pod.config.labels,
        annotations=pod.config.annotations,
        runtime_handler=pod.record.runtime_handler,
    )
