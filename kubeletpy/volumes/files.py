"""Files of pods that are no volumes: their directories, /etc/hosts, termination logs, logs."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.cri.hostname import hostname_and_domain
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.sandbox_config import pod_log_directory

from . import cleanup, hosts
from .errors import VolumeError
from .paths import PodPaths, pods_directory

_PRIVATE = 0o750
_LOGS = 0o755
_HOSTS_MODE = 0o644
_TERMINATION_LOG_MODE = 0o666


class PodFiles:
    """Files of the pods of one kubelet; all blocking, and each may be repeated at will.

    Args:
        node: facts of the node; its ``root_dir`` holds all but logs.
    """

    def __init__(self, node: NodeFacts) -> None:
        self._node = node

    def paths(self, uid: str) -> PodPaths:
        """Return where everything of a pod lies (pure)."""
        return PodPaths(self._node.root_dir, uid)

    def made(self, uid: str) -> PodPaths:
        """Make the pod's directory; nobody but root gets into it, for volumes are open to all.

        Raises:
            VolumeError: it cannot be made.
        """
        paths = self.paths(uid)
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
        paths = self.made(pod.metadata.uid)
        try:
            for container in (*pod.spec.init_containers, *pod.spec.containers):
                paths.container(container.name).mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            # Below the world-readable /var/log; parents of Path.mkdir get the default mode.
            pod_log_directory(pod, self._node).mkdir(mode=_LOGS, parents=True, exist_ok=True)
        except OSError as error:
            raise VolumeError("", f"directories of the pod cannot be made: {error}") from error

    def write_hosts(self, pod: Pod, pod_ips: Collection[str]) -> str:
        """Write the pod's /etc/hosts and return its path; "" while there is no address.

        Raises:
            VolumeError: it cannot be written.
        """
        aliases = pod.spec.host_aliases
        if not (pod_ips or pod.spec.host_network):
            return ""
        path = self.made(pod.metadata.uid).etc_hosts
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
        path = self.made(pod.metadata.uid).termination_log(container.name, attempt)
        try:
            path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            hosts.write_in_place(path, "", _TERMINATION_LOG_MODE)
        except OSError as error:
            raise VolumeError("", f"termination log cannot be made: {error}") from error
        return str(path)

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
