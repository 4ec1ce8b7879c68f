"""Cgroups of pods: a tree by QoS class (`layout`), with what each pod may use.

Containers' cgroups below a pod's are the runtime's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy_common.cgroups import CgroupError, CgroupStats, Hierarchy, LinuxResources

from .layout import CGROUPFS, CLASSES, SYSTEMD, Layout
from .limits import MIN_SHARES, UNLIMITED, Limits, cpu_shares, pod_cgroup_limits
from .policy import TIERED, ResourcePolicy
from .qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from .reading import read_limits
from .totals import pod_requests


def pod_cgroup(root: str, pod: Pod, driver: str = CGROUPFS) -> str:
    """Return the path of a pod's cgroup below the cgroup root ``root`` (pure)."""
    return Layout(root, driver).pod_path(qos_class(pod), pod.metadata.uid)


class PodCgroups:
    """The cgroups of the pods of one kubelet.

    Calls are synchronous and fast, but ``remove``, which may wait for processes to end: an asyncio
    program runs that one in a thread. All raise CgroupError.

    Args:
        hierarchy: from ``kubeletpy_common.cgroups.detect()``, or ``open_systemd()`` of it.
        root: ``--cgroup-root``; two kubelets on one machine need two.
        cpu_milli: thousandths of a CPU that pods may use, the weight of all pods together.
        policy: how requests and limits become those of the kernel.
        driver: cgroupfs or systemd; the runtime has to have the same.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        root: str = "/",
        *,
        cpu_milli: int = 0,
        policy: ResourcePolicy | None = None,
        driver: str = CGROUPFS,
    ) -> None:
        self.policy = policy or ResourcePolicy()
        self.layout = Layout(root, driver)
        self._hierarchy = hierarchy
        self._cpu_milli = cpu_milli
        self.exclusive: Callable[[Pod], bool] = lambda pod: False
        """Whether containers of a pod have CPUs of their own; then it has no quota."""
        self._weights: dict[str, LinuxResources] = {}

    def path(self, pod: Pod) -> str:
        """Return the path of the pod's cgroup: CRI's ``cgroup_parent``."""
        return self.layout.pod_path(qos_class(pod), pod.metadata.uid)

    def set_up(self) -> None:
        """Make the cgroups of all pods and of the QoS classes; what exists is kept."""
        for qos in CLASSES:
            self._hierarchy.cgroup(self.layout.class_path(qos)).create()
        if self._cpu_milli:
            shares = cpu_shares(self._cpu_milli)
            self._apply(GUARANTEED, LinuxResources(cpu_shares=shares))
        # Best-effort pods get what is left over.
        self._apply(BEST_EFFORT, LinuxResources(cpu_shares=MIN_SHARES))

    def enforce(self, resources: LinuxResources) -> None:
        """Limit all pods together: node allocatable (``enforceNodeAllocatable: [pods]``).

        Raises:
            CgroupError: the pods use more memory than that; eviction will bring it down.
        """
        self._apply(GUARANTEED, resources)

    def ensure(self, pod: Pod) -> str:
        """Make the pod's cgroup with its limits, and return its path; called again it repairs."""
        path = self.path(pod)
        cgroup = self._hierarchy.cgroup(path)
        cgroup.create()
        cgroup.apply(self._resources(self.wanted(pod)))
        return path

    def wanted(self, pod: Pod) -> Limits:
        """Return the limits that the pod's cgroup shall have."""
        exclusive = self.exclusive(pod)
        return pod_cgroup_limits(pod, self.policy, exclusive_cpus=exclusive)

    def change(self, pod: Pod, resources: LinuxResources) -> None:
        """Change limits of the pod's cgroup while its containers run."""
        self._hierarchy.cgroup(self.path(pod)).apply(resources)

    def read(self, pod: Pod, wanted: Limits) -> Limits | None:
        """Return the limits that the pod's cgroup has, None if it is gone; see `read_limits`."""
        cgroup = self._hierarchy.cgroup(self.path(pod))
        rounds = self.layout.driver == SYSTEMD
        return read_limits(cgroup, self._hierarchy.version, wanted, whole_percents=rounds)

    def usage(self, pod: Pod) -> CgroupStats:
        """Return what the pod uses, all of its containers together."""
        return self._hierarchy.cgroup(self.path(pod)).stats()

    def directory(self, controller: str, qos: str = GUARANTEED) -> Path | None:
        """Return the directory of the cgroup of a QoS class (Guaranteed: of all pods)."""
        return self._hierarchy.cgroup(self.layout.class_path(qos)).controller_directory(controller)

    def all_usage(self) -> CgroupStats:
        """Return what all pods together use."""
        return self._hierarchy.cgroup(self.layout.class_path(GUARANTEED)).stats()

    def weigh(self, pods: Iterable[Pod]) -> None:
        """Weigh the burstable pods together by what they request; call when pods change.

        With MemoryQoS and tiers, the classes also protect the memory that their pods request.
        """
        milli, memory = 0, {GUARANTEED: 0, BURSTABLE: 0, BEST_EFFORT: 0}
        for pod in pods:
            requests, qos = pod_requests(pod), qos_class(pod)
            memory[qos] += int(requests.get("memory") or 0)
            if qos == BURSTABLE and "cpu" in requests:
                milli += requests["cpu"].milli
        protect = self.policy.memory_qos and self._hierarchy.version == 2
        tiers = protect and self.policy.memory_reservation == TIERED
        low = memory[BURSTABLE] if tiers else 0
        least = memory[GUARANTEED] + memory[BURSTABLE] if tiers else 0
        self._apply_once(
            BURSTABLE,
            LinuxResources(
                cpu_shares=cpu_shares(milli), unified={"memory.low": str(low)} if protect else {}
            ),
        )
        if protect:
            self._apply_once(GUARANTEED, LinuxResources(unified={"memory.min": str(least)}))

    def remove(self, uid: str) -> None:
        """Kill what is left in the pod's cgroup and remove it; one that is gone is fine."""
        for qos in CLASSES:
            cgroup = self._hierarchy.cgroup(self.layout.pod_path(qos, uid))
            if cgroup.exists():
                cgroup.kill()
                cgroup.remove()

    def orphans(self, known: Collection[str]) -> list[str]:
        """Return the uids of pods that have a cgroup here and are not in ``known``."""
        found: set[str] = set()
        for qos in CLASSES:
            cgroup = self._hierarchy.cgroup(self.layout.class_path(qos))
            for directory in cgroup.directories():
                if directory.is_dir():
                    entries = (one.name for one in directory.iterdir() if one.is_dir())
                    found |= {self.layout.uid_of(name) for name in entries} - {""}
        return sorted(found - set(known))

    def tear_down(self) -> None:
        """Remove the cgroups of the classes and of all pods, if no pod is left in them.

        The cgroup root goes too unless somebody else uses it, for ``set_up`` makes it.

        Raises:
            CgroupError: pods are left.
        """
        for qos in (BURSTABLE, BEST_EFFORT, GUARANTEED):
            self._hierarchy.cgroup(self.layout.class_path(qos)).remove(recursive=False)
        self._weights.clear()
        for root in self.layout.roots():
            if not self._is_empty(root):
                break
            self._hierarchy.cgroup(root).remove(recursive=False)

    def _is_empty(self, path: str) -> bool:
        cgroup = self._hierarchy.cgroup(path)
        present = [directory for directory in cgroup.directories() if directory.is_dir()]
        children = any(entry.is_dir() for directory in present for entry in directory.iterdir())
        return not children and not cgroup.processes()

    def _apply_once(self, qos: str, resources: LinuxResources) -> None:
        if self._weights.get(qos) != resources:
            self._apply(qos, resources)
            self._weights[qos] = resources

    def _apply(self, qos: str, resources: LinuxResources) -> None:
        self._hierarchy.cgroup(self.layout.class_path(qos)).apply(resources)

    def _resources(self, limits: Limits) -> LinuxResources:
        pids = self.policy.pids_limit
        return LinuxResources(
            cpu_shares=limits.cpu_shares,
            cpu_quota_us=limits.cpu_quota_us,
            cpu_period_us=limits.cpu_period_us,
            memory_limit=limits.memory_bytes,
            pids_limit=pids if pids > 0 else None,
            hugepages=dict(limits.hugepages) if "hugetlb" in self._hierarchy.controllers() else {},
            unified=dict(limits.unified) if self._hierarchy.version == 2 else {},
        )


__all__ = ["UNLIMITED", "CgroupError", "PodCgroups", "pod_cgroup"]
