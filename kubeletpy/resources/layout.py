"""Where the cgroups of pods are, by the cgroup driver (pure).

cgroupfs::

    <cgroup root>/kubepods                      all pods
    <cgroup root>/kubepods/pod<uid>             Guaranteed
    <cgroup root>/kubepods/burstable/pod<uid>   Burstable
    <cgroup root>/kubepods/besteffort/pod<uid>  BestEffort

systemd, where dashes are levels, and those of names become underscores::

    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice
"""

from __future__ import annotations

from posixpath import basename, dirname, join

from kubeletpy_common.cgroups.systemd.names import SLICE, child_slice

from .qos import BEST_EFFORT, BURSTABLE, GUARANTEED

CGROUPFS, SYSTEMD = "cgroupfs", "systemd"
CLASSES = {GUARANTEED: "", BURSTABLE: "burstable", BEST_EFFORT: "besteffort"}
_ALL, _POD = "kubepods", "pod"
_TOP_SLICE = "-.slice"


class Layout:
    """Paths below the root of each hierarchy.

    Args:
        root: ``--cgroup-root``.
        driver: cgroupfs or systemd.
    """

    def __init__(self, root: str = "/", driver: str = CGROUPFS) -> None:
        self.root = join("/", root)
        self.driver = driver

    def roots(self) -> list[str]:
        """Return the cgroup root and all above it, the deepest first; none if that is ``/``."""
        found, path = [], dirname(self.class_path(GUARANTEED))
        while path != "/":
            found.append(path)
            path = dirname(path)
        return found

    def class_path(self, qos: str) -> str:
        """Return the cgroup that holds the pods of a QoS class; all pods for Guaranteed."""
        return self._below(_ALL, *filter(None, (CLASSES[qos],)))

    def pod_path(self, qos: str, uid: str) -> str:
        """Return the cgroup of a pod: what CRI takes as ``cgroup_parent``."""
        return self._below(_ALL, *filter(None, (CLASSES[qos],)), f"{_POD}{uid}")

    def uid_of(self, path: str) -> str:
        """Return the uid of the pod whose cgroup has this path (or name); "" if it is none."""
        name = basename(path)
        if self.driver == SYSTEMD:
            if not name.endswith(SLICE):
                return ""
            name = name.removesuffix(SLICE).rpartition("-")[2].replace("_", "-")
        return name.removeprefix(_POD) if name.startswith(_POD) else ""

    def _below(self, *names: str) -> str:
        if self.driver != SYSTEMD:
            return join(self.root, *names)
        path = _TOP_SLICE
        for name in (*filter(None, self.root.split("/")), *names):
            path = child_slice(path, name.removesuffix(SLICE))
        return path
