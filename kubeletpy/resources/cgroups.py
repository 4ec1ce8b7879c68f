"""Cgroups of pods: a tree by QoS class, with what each pod may use.

    <cgroup root>/kubepods                      all pods
    <cgroup root>/kubepods/pod<uid>             Guaranteed
    <cgroup root>/kubepods/burstable/pod<uid>   Burstable
    <cgroup root>/kubepods/besteffort/pod<uid>  BestEffort

Containers' cgroups below a pod's are the runtime's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from posixpath import dirname, join

from kubeletpy.api.pod import Pod
from kubeletpy_common.cgroups import CgroupError, Hierarchy, LinuxResources

from .limits import MIN_SHARES, Limits, cpu_shares, pod_cgroup_limits
from .qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from .totals import pod_requests

_CLASSES = {GUARANTEED: "", BURSTABLE: "burstable", BEST_EFFORT: "besteffort"}
_PREFIX = "pod"


def pod_cgroup(root: str, pod: Pod) -> str:
    """Return the path of a pod's cgroup below the cgroup root ``root`` (pure)."""
    return join(_class_path(root, qos_class(pod)), f"{_PREFIX}{pod.metadata.uid}")


class PodCgroups:
    """The cgroups of the pods of one kubelet.

    Calls are synchronous and fast, but ``remove``, which may wait for processes to end: an asyncio
    program runs that one in a thread. All raise CgroupError.

    Args:
        hierarchy: from ``kubeletpy_common.cgroups.detect()``.
        root: ``--cgroup-root``; two kubelets on one machine need two.
        cpu_milli: capacity of the node in thousandths of a CPU, the weight of all pods together.
        pids_limit: ``--pod-max-pids``; -1 for no limit.
    """

    def __init__(
        self, hierarchy: Hierarchy, root: str = "/", *, cpu_milli: int = 0, pids_limit: int = -1
    ) -> None:
        self._hierarchy = hierarchy
        self._root = join("/", root)
        self._cpu_milli = cpu_milli
        self._pids_limit = pids_limit
        self._burstable_shares: int | None = None

    def path(self, pod: Pod) -> str:
        """Return the path of the pod's cgroup: CRI's ``cgroup_parent``."""
        return pod_cgroup(self._root, pod)

    def set_up(self) -> None:
        """Make the cgroups of all pods and of the QoS classes; what exists is kept."""
        for qos in _CLASSES:
            self._hierarchy.cgroup(_class_path(self._root, qos)).create()
        if self._cpu_milli:
            self._apply(_class_path(self._root, GUARANTEED), cpu_shares(self._cpu_milli))
        # Best-effort pods get what is left over.
        self._apply(_class_path(self._root, BEST_EFFORT), MIN_SHARES)

    def ensure(self, pod: Pod) -> str:
        """Make the pod's cgroup with its limits, and return its path; called again it repairs."""
        path = self.path(pod)
        cgroup = self._hierarchy.cgroup(path)
        cgroup.create()
        cgroup.apply(_resources(pod_cgroup_limits(pod), self._pids_limit))
        return path

    def weigh(self, pods: Iterable[Pod]) -> None:
        """Weigh the burstable pods together by what they request; call when pods change."""
        requested = 0
        for pod in pods:
            cpu = pod_requests(pod).get("cpu")
            if cpu is not None and qos_class(pod) == BURSTABLE:
                requested += cpu.milli
        shares = cpu_shares(requested)
        if shares != self._burstable_shares:
            self._apply(_class_path(self._root, BURSTABLE), shares)
            self._burstable_shares = shares

    def remove(self, uid: str) -> None:
        """Kill what is left in the pod's cgroup and remove it; one that is gone is fine."""
        for qos in _CLASSES:
            cgroup = self._hierarchy.cgroup(join(_class_path(self._root, qos), f"{_PREFIX}{uid}"))
            if cgroup.exists():
                cgroup.kill()
                cgroup.remove()

    def orphans(self, known: Collection[str]) -> list[str]:
        """Return the uids of pods that have a cgroup here and are not in ``known``."""
        found: set[str] = set()
        for qos in _CLASSES:
            for directory in self._hierarchy.cgroup(_class_path(self._root, qos)).directories():
                if directory.is_dir():
                    found |= {
                        entry.name.removeprefix(_PREFIX)
                        for entry in directory.iterdir()
                        if entry.name.startswith(_PREFIX) and entry.is_dir()
                    }
        return sorted(found - set(known))

    def tear_down(self) -> None:
        """Remove the cgroups of the classes and of all pods, if no pod is left in them.

        The cgroup root goes too unless somebody else uses it, for ``set_up`` makes it.

        Raises:
            CgroupError: pods are left.
        """
        for qos in (BURSTABLE, BEST_EFFORT, GUARANTEED):
            self._hierarchy.cgroup(_class_path(self._root, qos)).remove(recursive=False)
        self._burstable_shares = None
        root = self._root
        while root != "/" and self._is_empty(root):
            self._hierarchy.cgroup(root).remove(recursive=False)
            root = dirname(root)

    def _is_empty(self, path: str) -> bool:
        cgroup = self._hierarchy.cgroup(path)
        present = [directory for directory in cgroup.directories() if directory.is_dir()]
        children = any(entry.is_dir() for directory in present for entry in directory.iterdir())
        return not children and not cgroup.processes()

    def _apply(self, path: str, shares: int) -> None:
        self._hierarchy.cgroup(path).apply(LinuxResources(cpu_shares=shares))


def _class_path(root: str, qos: str) -> str:
    return join(root, "kubepods", _CLASSES[qos]).rstrip("/")


def _resources(limits: Limits, pids_limit: int) -> LinuxResources:
    return LinuxResources(
        cpu_shares=limits.cpu_shares,
        cpu_quota_us=limits.cpu_quota_us,
        cpu_period_us=limits.cpu_period_us,
        memory_limit=limits.memory_bytes,
        pids_limit=pids_limit if pids_limit > 0 else None,
    )


__all__ = ["CgroupError", "PodCgroups", "pod_cgroup"]
