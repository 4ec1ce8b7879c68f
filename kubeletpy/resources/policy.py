"""How requests and limits become limits of the kernel on this node: what its administrator set."""

from __future__ import annotations

from dataclasses import dataclass

QUOTA_PERIOD_US = 100_000
"""The kernel's and Kubernetes' default of cpu.cfs_period_us."""
NO_SWAP, LIMITED_SWAP = "NoSwap", "LimitedSwap"
TIERED = "TieredReservation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """Settings of the kubelet and facts of the node that limits depend on.

    Attributes:
        enforce_cpu_quota: ``cpuCFSQuota``: CPU limits are kept by a quota.
        quota_period_us: ``cpuCFSQuotaPeriod`` in microseconds.
        pids_limit: ``podPidsLimit``: processes of a pod; 0 or less: no limit.
        swap_behavior: ``memorySwap.swapBehavior``: NoSwap or LimitedSwap.
        swap_accounted: whether the memory controller limits swap here.
        swap_bytes: the node's swap.
        single_process_oom_kill: ``singleProcessOOMKill``: the OOM killer takes one process, not
            the whole container (cgroup v2 knows the difference; v1 kills single ones always).
        memory_qos: the gate MemoryQoS, cgroup v2 only.
        throttling_factor: ``memoryThrottlingFactor``, where memory.high lies between request
            and limit.
        memory_reservation: ``memoryReservationPolicy``: None or TieredReservation.
        allocatable_memory: bytes that pods may use together; 0: not known.
        page_size: of the machine, in bytes.
    """

    enforce_cpu_quota: bool = True
    quota_period_us: int = QUOTA_PERIOD_US
    pids_limit: int = -1
    swap_behavior: str = NO_SWAP
    swap_accounted: bool = False
    swap_bytes: int = 0
    single_process_oom_kill: bool = False
    memory_qos: bool = False
    throttling_factor: float = 0.9
    memory_reservation: str = "None"
    allocatable_memory: int = 0
    page_size: int = 4096
