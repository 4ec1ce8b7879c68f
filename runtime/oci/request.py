"""What the translation of a CRI container to an OCI configuration starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.users import ResolvedUser


class TranslationError(ValueError):
    """The request contradicts itself, or asks for what this runtime does not do (yet)."""


class ImageDefaults(Protocol):
    """What the translation needs of an image's config (OCI image specification, config.md)."""

    @property
    def env(self) -> Sequence[str]:
        """``NAME=value`` entries."""
        ...

    @property
    def entrypoint(self) -> Sequence[str]:
        """First words of the command line."""
        ...

    @property
    def cmd(self) -> Sequence[str]:
        """Last words of the command line."""
        ...

    @property
    def working_dir(self) -> str:
        """Absolute path, or "" for the root."""
        ...


@dataclass(frozen=True)
class HostDevice:
    """A device node, as it is to appear in the container.

    Attributes:
        path: absolute, in the container.
        kind: ``c`` or ``b``.
        major: device number.
        minor: device number.
        mode: permission bits.
        uid: owner.
        gid: group.
        access: letters of ``rwm`` that the container's device cgroup grants.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True)
class BindSource:
    """A host path of a mount, looked at.

    Attributes:
        path: without symbolic links.
        shared: it lies on a mount with shared propagation.
        slave: it lies on a mount that receives propagation.
    """

    path: str
    shared: bool = False
    slave: bool = False


@dataclass(frozen=True)
class ImageVolume:
    """An image to be mounted.

    Attributes:
        base: absolute path of the directory that holds its layers.
        layers: directories relative to ``base``, the topmost first; the last one is empty.
        sub_path: the file or directory of the image that is meant; "" for its root.
    """

    base: str
    layers: tuple[str, ...]
    sub_path: str = ""


@dataclass(frozen=True)
class HostFacts:
    """What the translation depends on of the machine.

    Attributes:
        hostname: of the node; for pods in the host's network.
        cgroup_version: 1 or 2.
        capabilities: names of those that the runtime itself holds; nobody can be given more.
        selinux: the kernel enforces SELinux.
        apparmor: the kernel enforces AppArmor.
        machine: the architecture, as ``uname -m`` says it.
        lowest_oom_score_adj: the lowest score a process may be given: -1000, or the runtime's own
            where CAP_SYS_RESOURCE is missing (containerd's ``restrict_oom_score_adj``).
        tmpfs_maps_ids: a tmpfs can be mounted with mapped ids, as from Linux 6.3 on.
    """

    hostname: str = "localhost"
    cgroup_version: int = 2
    capabilities: tuple[str, ...] = ()
    selinux: bool = False
    apparmor: bool = False
    lowest_oom_score_adj: int = -1000
    machine: str = "x86_64"
    tmpfs_maps_ids: bool = True


@dataclass(frozen=True)
class PodPaths:
    """The files of the pod that each of its containers gets to see.

    Attributes:
        hostname: becomes /etc/hostname.
        resolv_conf: becomes /etc/resolv.conf.
        hosts: becomes /etc/hosts.
        shm: the directory that becomes /dev/shm.
    """

    hostname: str
    resolv_conf: str
    hosts: str
    shm: str


@dataclass(frozen=True)
class TranslationRequest:
    """All that an OCI configuration is made of.

    Attributes:
        container_id: the CRI id.
        sandbox_id: the CRI id of the pod.
        sandbox: the CRI config of the pod.
        container: the CRI config of the container.
        image: defaults of the image.
        user: who it runs as.
        pod_paths: files of the pod.
        namespaces: where the pod's namespaces are pinned, by OCI name; one that is missing is the
            host's.
        target_pid_namespace: of the container named by ``target_id``, for mode TARGET.
        volumes: host directories of the image's VOLUME paths, by their path in the container.
        sources: the mounts' host paths, looked at.
        image_volumes: images to be mounted, by the number of the mount.
        devices: the devices asked for; all of the host for a privileged container.
        cgroup: path of the container's cgroup, as from the root of each hierarchy.
        host: the machine.
        localhost_profile: the seccomp profile of a Localhost one's file, read and checked.
    """

    container_id: str
    sandbox_id: str
    sandbox: cri.PodSandboxConfig
    container: cri.ContainerConfig
    image: ImageDefaults
    user: ResolvedUser
    pod_paths: PodPaths
    namespaces: Mapping[str, str] = field(default_factory=dict)
    target_pid_namespace: str = ""
    volumes: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, BindSource] = field(default_factory=dict)
    image_volumes: Mapping[int, ImageVolume] = field(default_factory=dict)
    devices: tuple[HostDevice, ...] = ()
    cgroup: str = ""
    host: HostFacts = field(default_factory=HostFacts)
    localhost_profile: Mapping[str, Any] | None = None

    @property
    def security(self) -> cri.LinuxContainerSecurityContext:
        """The container's security context; empty if none was given."""
        return self.container.linux.security_context
