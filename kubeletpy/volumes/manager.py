"""All volumes and files of pods: made before the containers, removed after them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import Volume
from kubeletpy.cri.container_config import sub_path_of
from kubeletpy.cri.hostname import hostname_and_domain
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.sandbox_config import pod_log_directory

from . import cleanup, downward, empty_dir, host_path, hosts, subpath
from .errors import VolumeError
from .paths import DOWNWARD_API, EMPTY_DIR, PodPaths, pods_directory

_PRIVATE = 0o750
_LOGS = 0o755
_HOSTS_MODE = 0o644
_TERMINATION_LOG_MODE = 0o666


class PodVolumes:
    """Volumes and files of the pods of one kubelet.

    Everything is found again from the paths alone, so a restarted kubelet goes on with it.

    Args:
        node: facts of the node; its ``root_dir`` holds all but hostPath volumes and logs.
    """

    def __init__(self, node: NodeFacts) -> None:
        self._node = node

    def _paths(self, uid: str) -> PodPaths:
        return PodPaths(self._node.root_dir, uid)

    def _made(self, uid: str) -> PodPaths:
        """Make the pod's directory; nobody but root gets into it, for volumes are open to all."""
        paths = self._paths(uid)
        try:
            self._node.root_dir.mkdir(parents=True, exist_ok=True)
            for directory in (pods_directory(self._node.root_dir), paths.directory):
                directory.mkdir(mode=_PRIVATE, exist_ok=True)
                directory.chmod(_PRIVATE)
        except OSError as error:
            raise VolumeError("", f"directory of the pod cannot be made: {error}") from error
        return paths

    def prepare_directories(self, pod: Pod) -> None:
        """Make the directories of the pod, of its containers and of its logs.

        Raises:
            VolumeError: one cannot be made.
        """
        paths = self._made(pod.metadata.uid)
        try:
            for container in (*pod.spec.init_containers, *pod.spec.containers):
                paths.container(container.name).mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            # Below the world-readable /var/log; parents of Path.mkdir get the default mode.
            pod_log_directory(pod, self._node).mkdir(mode=_LOGS, parents=True, exist_ok=True)
        except OSError as error:
            raise VolumeError("", f"directories of the pod cannot be made: {error}") from error

    def paths(self, pod: Pod) -> dict[str, str]:
        """Return the path of each volume, mounted or not (pure)."""
        return {volume.name: self._path(pod, volume) for volume in pod.spec.volumes}

    def mount(self, pod: Pod) -> dict[str, str]:
        """Make and mount what is not yet, and return the path of each volume.

        Raises:
            VolumeError: the first failure; what is made stays, for the next try.
        """
        paths = self._made(pod.metadata.uid)
        result = {}
        for volume in pod.spec.volumes:
            name = volume.name
            if volume.empty_dir is not None:
                path = empty_dir.set_up(pod, name, volume.empty_dir, paths, self._node.memory_bytes)
            elif volume.host_path is not None:
                path = host_path.set_up(name, volume.host_path)
            elif volume.downward_api is not None:
                path = downward.set_up(pod, name, volume.downward_api, paths, self._node)
            else:
                raise VolumeError(name, "its type is not supported by this kubelet")
            result[name] = path
        return result

    def sub_paths(
        self, pod: Pod, container: Container, variables: Mapping[str, str]
    ) -> dict[int, str]:
        """Bind the subPaths of a container; return the paths by index of the mount.

        Args:
            pod: its volumes are mounted.
            container: one of its containers.
            variables: the container's environment, for subPathExpr.

        Raises:
            VolumeError: one leaves its volume or cannot be bound.
            ConfigError: subPathExpr names an undefined variable.
        """
        volumes = self.paths(pod)
        paths = self._made(pod.metadata.uid)
        result = {}
        for index, mount in enumerate(container.volume_mounts):
            inside = sub_path_of(mount, variables)
            if not inside:
                continue
            if inside.startswith("/") or ".." in inside.split("/"):
                raise VolumeError(mount.name, f"subPath {inside!r} must stay inside the volume")
            target = paths.sub_path(mount.name, container.name, index)
            result[index] = subpath.prepare(mount.name, volumes[mount.name], inside, target)
        return result

    def write_hosts(self, pod: Pod, pod_ips: Collection[str]) -> str:
        """Write the pod's /etc/hosts and return its path; "" while there is no address.

        Raises:
            VolumeError: it cannot be written.
        """
        aliases = pod.spec.host_aliases
        if not (pod_ips or pod.spec.host_network):
            return ""
        path = self._made(pod.metadata.uid).etc_hosts
        try:
            if pod.spec.host_network:
                content = hosts.host_network_hosts(hosts.read_node_hosts(), aliases)
            else:
                name, domain = hostname_and_domain(pod, self._node)
                content = hosts.pod_hosts(list(pod_ips), name, domain, aliases)
            hosts.write_in_place(path, content, _HOSTS_MODE)
        except OSError as error:
            raise VolumeError("", f"/etc/hosts of the pod cannot be written: {error}") from error
        return str(path)

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> str:
        """Make the empty file behind terminationMessagePath, writable for any user; its path.

        Raises:
            VolumeError: it cannot be made.
        """
        path = self._made(pod.metadata.uid).termination_log(container.name, attempt)
        try:
            path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            hosts.write_in_place(path, "", _TERMINATION_LOG_MODE)
        except OSError as error:
            raise VolumeError("", f"termination log cannot be made: {error}") from error
        return str(path)

    def unmount(self, uid: str) -> None:
        """Unmount all that is mounted for a pod; nothing is fine.

        Raises:
            VolumeError: something is busy.
        """
        cleanup.unmount_below(self._paths(uid).directory)

    def remove(self, uid: str) -> None:
        """Unmount and remove all of a pod below the root directory; nothing is fine.

        Raises:
            VolumeError: something is busy or mounted; nothing behind a mount is touched.
        """
        self.unmount(uid)
        cleanup.remove_tree(self._paths(uid).directory)

    def remove_logs(self, pod: Pod) -> None:
        """Remove the logs of a pod; none is fine.

        Raises:
            VolumeError: they cannot be removed.
        """
        cleanup.remove_tree(pod_log_directory(pod, self._node))

    def orphans(self, known: Collection[str]) -> list[str]:
        """Return the uids that have a directory here and are not in ``known``."""
        directory = pods_directory(self._node.root_dir)
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name not in known and (directory / name).is_dir())

    def _path(self, pod: Pod, volume: Volume) -> str:
        if volume.host_path is not None:
            return volume.host_path.path
        plugin = DOWNWARD_API if volume.downward_api is not None else EMPTY_DIR
        return str(self._paths(pod.metadata.uid).volume(plugin, volume.name))


def orphan_logs(node: NodeFacts, known: Collection[str]) -> list[Path]:
    """Return the log directories whose pod is not in ``known`` (uids)."""
    try:
        names = os.listdir(node.pod_logs)
    except FileNotFoundError:
        return []
    return sorted(
        node.pod_logs / name
        for name in names
        if name.count("_") == 2 and name.rpartition("_")[2] not in known
    )
