"""How new limits go together with those that are (pure)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Final

from kubeletpy_common.cgroups import UNLIMITED, Cgroup, CgroupError, LinuxResources, MemoryStats
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.oci.translate_limits import translate_resources

_OOM_SCORES: Final = range(-1000, 1001)
_DEFAULTS: Final = {
    "cpu_shares": 1024,
    "cpu_quota_us": UNLIMITED,
    "cpu_period_us": 100_000,
    "memory_limit": UNLIMITED,
    "memory_swap": UNLIMITED,
    "pids_limit": UNLIMITED,
}


def merged(
    now: cri.LinuxContainerResources, change: cri.LinuxContainerResources
) -> cri.LinuxContainerResources:
    """Return the limits after a change: what the request leaves at 0 or empty stays.

    A new memory limit without a word about swap keeps the room for swap: memory and swap together
    move along with memory.

    Raises:
        InvalidRequestError: an OOM score that does not exist.
    """
    if change.oom_score_adj not in _OOM_SCORES:
        raise InvalidRequestError(
            f"linux.oom_score_adj is {change.oom_score_adj}: it must be from -1000 to 1000"
        )
    result = cri.LinuxContainerResources()
    result.CopyFrom(now)
    for field, value in change.ListFields():
        if field.name == "hugepage_limits":
            _merge_hugepages(result, change)
        elif field.name == "unified":
            result.unified.update(change.unified)
        else:
            setattr(result, field.name, value)
    if change.memory_limit_in_bytes and not change.memory_swap_limit_in_bytes:
        result.memory_swap_limit_in_bytes = _swap_beside(now, change.memory_limit_in_bytes)
    return result


def _swap_beside(now: cri.LinuxContainerResources, limit: int) -> int:
    both, memory = now.memory_swap_limit_in_bytes, now.memory_limit_in_bytes
    if both <= 0 or memory <= 0 or limit < 0:
        # Not given: the same as memory, as at the creation; or unlimited, which it stays.
        return both
    return limit + max(0, both - memory)


def _merge_hugepages(
    result: cri.LinuxContainerResources, change: cri.LinuxContainerResources
) -> None:
    limits = {page.page_size: page.limit for page in result.hugepage_limits}
    limits |= {page.page_size: page.limit for page in change.hugepage_limits}
    del result.hugepage_limits[:]
    for size, limit in limits.items():
        result.hugepage_limits.add(page_size=size, limit=limit)


def updated_config(
    config: dict[str, Any], resources: cri.LinuxContainerResources, cgroup_version: int
) -> dict[str, Any]:
    """Return the OCI configuration with other limits; its device rules stay.

    Raises:
        TranslationError: the limits cannot be expressed.
    """
    linux = config["linux"]
    limits = translate_resources(resources, cgroup_version)
    for kept in ("devices", "pids"):
        if kept in linux["resources"]:
            limits.setdefault(kept, linux["resources"][kept])
    return {**config, "linux": {**linux, "resources": limits}}


def undoing(before: LinuxResources, after: LinuxResources) -> LinuxResources:
    """Return what to set so that nothing of ``after`` is left where it differs from ``before``.

    Where there was no limit the kernel's default comes back; CPU sets and huge pages have none
    that can be known, and stay.
    """
    changed: dict[str, Any] = {}
    for field in fields(LinuxResources):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new:
            changed[field.name] = _DEFAULTS.get(field.name, old) if old is None else old
    # Memory and swap are one limit and the sum with the other: they go together.
    for name in ("memory_limit", "memory_swap"):
        if changed.keys() & {"memory_limit", "memory_swap"}:
            changed.setdefault(name, getattr(before, name))
    changed.pop("devices", None)
    return LinuxResources(**changed)


@contextmanager
def refusals_told(cgroup: Cgroup) -> Iterator[None]:
    """Tell the client of what processes make impossible as such, not as our failure.

    Raises:
        NotReadyError: the processes of ``cgroup`` use more than they would be allowed, or have
            ended meanwhile.
    """
    try:
        yield
    except CgroupError as error:
        if error.errno == errno.EBUSY:
            raise NotReadyError(str(error)) from error
        if not cgroup.exists():
            raise NotReadyError(f"its processes have ended meanwhile: {error}") from error
        raise


def check_memory(path: str, limit: int, memory: MemoryStats | None) -> None:
    """Refuse a memory limit that the processes exceed already.

    v1 refuses it itself, v2 would let the OOM killer choose.

    Raises:
        CgroupError: (EBUSY) with both numbers.
    """
    if memory is None or limit <= 0 or limit >= memory.rss:
        return
    raise CgroupError(
        errno.EBUSY,
        path,
        f"cannot limit memory to {limit} bytes",
        f"its processes use {memory.rss} bytes that cannot be reclaimed",
        "give a higher limit, or let its processes free memory first",
    )
