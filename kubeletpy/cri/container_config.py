"""Pod and container -> ContainerConfig (pure), as the Go kubelet 1.36 builds it."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubeletpy.api.container import Container, VolumeMount
from kubeletpy.api.pod import Pod
from kubeletpy.api.signals import cri_signal
from kubeletpy_proto import cri_pb2

from .environment import PodAddresses, Sources, environment, expand, expand_all
from .labels import container_annotations, container_labels
from .node import NodeFacts
from .resources import container_resources
from .security import ConfigError, ImageUser, container_security

ETC_HOSTS = "/etc/hosts"

_PROPAGATION = {
    None: cri_pb2.PROPAGATION_PRIVATE,
    "None": cri_pb2.PROPAGATION_PRIVATE,
    "HostToContainer": cri_pb2.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri_pb2.PROPAGATION_BIDIRECTIONAL,
}


class MountedVolume(Protocol):
    """A volume as containers get it; see `kubeletpy.volumes.plugin.MountRecord`."""

    @property
    def path(self) -> str:
        """Where it is on the node; a device if ``block``."""

    @property
    def read_only(self) -> bool:
        """Whether nobody may write to it."""

    @property
    def block(self) -> bool:
        """Whether it is a raw disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """All that a container's configuration depends on.

    Attributes:
        pod, container: with defaults filled in.
        node: facts of the node.
        attempt: how often the container was restarted; names its log.
        image_ref: what the image service resolved the image to.
        image_user: the user that the image asks for.
        addresses: of the running sandbox and of the node.
        volumes: what is mounted on the node, by volume name.
        images: references of image volumes by volume name; their images are there.
        image_sub_paths: by index of the mount, for mounts of images, expanded.
        sub_paths: path on the node by index of the mount, for mounts with a subPath (made by
            `volumes.subpath`).
        sources: what variables come from besides the pod.
        hosts_file: the pod's /etc/hosts on the node; "" for none.
        termination_log: file on the node that shows at terminationMessagePath; "" for none.
        ids: those of the pod's own user namespace on the node: the first one and their number.
    """

    pod: Pod
    container: Container
    node: NodeFacts
    attempt: int = 0
    image_ref: str = ""
    image_user: ImageUser = field(default_factory=ImageUser)
    addresses: PodAddresses = field(default_factory=PodAddresses)
    volumes: Mapping[str, MountedVolume] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    image_sub_paths: Mapping[int, str] = field(default_factory=dict)
    sub_paths: Mapping[int, str] = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)
    hosts_file: str = ""
    termination_log: str = ""
    ids: tuple[int, int] | None = None


def log_path(container: str, attempt: int) -> str:
    """Return the log file of a container, relative to the pod's log directory."""
    return f"{container}/{attempt}.log"


def container_config(request: ContainerRequest) -> cri_pb2.ContainerConfig:
    """Translate a container of a pod.

    Raises:
        ConfigError: a reference, a mount or the security context cannot be resolved.
    """
    pod, container, node = request.pod, request.container, request.node
    variables = environment(pod, container, node, request.addresses, request.sources)
    config = cri_pb2.ContainerConfig(
        metadata=cri_pb2.ContainerMetadata(name=container.name, attempt=request.attempt),
        image=cri_pb2.ImageSpec(
            image=request.image_ref or container.image, user_specified_image=container.image
        ),
        command=_texts(container.command, variables),
        args=_texts(container.args, variables),
        working_dir=container.working_dir,
        envs=[
            cri_pb2.KeyValue(key=name, value=value.encode("utf-8", "surrogateescape"))
            for name, value in variables.items()
        ],
        mounts=container_mounts(request),
        devices=container_devices(request),
        labels=container_labels(pod, container),
        annotations=container_annotations(pod, container, request.attempt),
        log_path=log_path(container.name, request.attempt),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        linux=cri_pb2.LinuxContainerConfig(
            resources=container_resources(pod, container, node),
            security_context=container_security(
                pod, container, node, request.image_user, request.ids
            ),
        ),
    )
    if request.ids is not None:
        users = config.linux.security_context.namespace_options.userns_options
        for mount in config.mounts:
            mount.uidMappings.extend(users.uids)
            mount.gidMappings.extend(users.gids)
    if container.lifecycle is not None and container.lifecycle.stop_signal:
        config.stop_signal = cri_pb2.Signal.Value(cri_signal(container.lifecycle.stop_signal))
    return config


def _texts(texts: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Expand a command line; unlike variables it has to be UTF-8 in CRI."""
    return [
        text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for text in expand_all(texts, variables)
    ]


def sub_path_of(mount: VolumeMount, variables: Mapping[str, str]) -> str:
    """Return the path inside the volume that a mount shows; subPathExpr expanded.

    Raises:
        ConfigError: a variable of the expression is not defined.
    """
    if not mount.sub_path_expr:
        return mount.sub_path
    path = expand(mount.sub_path_expr, variables)
    if "$(" in path:
        raise ConfigError(
            f"volume mount {mount.name}: subPathExpr {mount.sub_path_expr!r} refers to a variable "
            "that is not defined"
        )
    return path


def container_mounts(request: ContainerRequest) -> list[cri_pb2.Mount]:
    """Return the mounts: volumes, /etc/hosts unless a volume covers it, the termination log.

    Raises:
        ConfigError: a volume is not mounted on the node.
    """
    mounts = []
    hosts_file = request.hosts_file
    for index, mount in enumerate(request.container.volume_mounts):
        mounts.append(_volume_mount(request, index, mount))
        if os.path.normpath(mount.mount_path) == ETC_HOSTS:
            hosts_file = ""
    if hosts_file:
        context = request.container.security_context
        read_only = bool(context and context.read_only_root_filesystem)
        mounts.append(
            cri_pb2.Mount(container_path=ETC_HOSTS, host_path=hosts_file, readonly=read_only)
        )
    if request.termination_log and request.container.termination_message_path:
        mounts.append(
            cri_pb2.Mount(
                container_path=request.container.termination_message_path,
                host_path=request.termination_log,
            )
        )
    return mounts


def _volume_mount(request: ContainerRequest, index: int, mount: VolumeMount) -> cri_pb2.Mount:
    volume = request.volumes.get(mount.name)
    if volume is None or volume.block:
        raise ConfigError(
            f'cannot find volume "{mount.name}" to mount into container "{request.container.name}"'
        )
    image, host_path = request.images.get(mount.name, ""), volume.path
    if not image and (mount.sub_path or mount.sub_path_expr):
        prepared = request.sub_paths.get(index)
        if prepared is None:
            raise ConfigError(f"subPath of volume mount {mount.name!r} was not prepared")
        host_path = prepared
    container_path = mount.mount_path
    if not container_path.startswith("/"):
        container_path = f"/{container_path}"
    recursive = mount.read_only and (
        mount.recursive_read_only == "Enabled"
        or (mount.recursive_read_only == "IfPossible" and request.node.recursive_read_only)
    )
    result = cri_pb2.Mount(
        container_path=container_path,
        host_path=host_path,
        readonly=mount.read_only or volume.read_only,
        propagation=_PROPAGATION[mount.mount_propagation],
        recursive_read_only=recursive,
    )
    if image:
        result.image.image = image
        result.image.user_specified_image = next(
            (each.image.reference for each in request.pod.spec.volumes
             if each.name == mount.name and each.image is not None), "",
        )  # fmt: skip
        result.image_sub_path = request.image_sub_paths.get(index, mount.sub_path)
    return result


def container_devices(request: ContainerRequest) -> list[cri_pb2.Device]:
    """Return the raw disks that a container gets (``volumeDevices``).

    Raises:
        ConfigError: one is not there.
    """
    devices = []
    for device in request.container.volume_devices:
        if not device.device_path.startswith("/"):
            raise ConfigError(f"error DevicePath `{device.device_path}` must be an absolute path")
        volume = request.volumes.get(device.name)
        if volume is None or not volume.block:
            raise ConfigError(
                f'cannot find volume "{device.name}" to pass into container '
                f'"{request.container.name}"'
            )
        devices.append(
            cri_pb2.Device(
                host_path=volume.path,
                container_path=device.device_path,
                permissions="r" if volume.read_only else "mrw",
            )
        )
    return devices
