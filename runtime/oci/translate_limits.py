"""Resources, devices and namespaces of an OCI configuration (pure)."""

from __future__ import annotations

from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.defaults import ALL_DEVICES_RULE, DEFAULT_DEVICE_RULES
from runtime.oci.request import TranslationError, TranslationRequest


def translate_resources(
    resources: cri.LinuxContainerResources, cgroup_version: int
) -> dict[str, Any]:
    """Return OCI ``linux.resources`` without its devices.

    0 means "not given" for every number, as the protocol says. Memory without a limit for swap
    gets the same limit for both together, so that a container does not swap unasked.

    Raises:
        TranslationError: ``unified`` on cgroup v1, a negative limit.
    """
    result: dict[str, Any] = {}
    cpu = {
        "shares": resources.cpu_shares,
        "quota": resources.cpu_quota,
        "period": resources.cpu_period,
        "cpus": resources.cpuset_cpus,
        "mems": resources.cpuset_mems,
    }
    for name in ("cpu_shares", "cpu_period"):
        if getattr(resources, name) < 0:
            raise TranslationError(f"resources.{name} is negative: {getattr(resources, name)}")
    if given := {key: value for key, value in cpu.items() if value}:
        result["cpu"] = given
    limit = resources.memory_limit_in_bytes
    swap = resources.memory_swap_limit_in_bytes
    if limit < -1 or swap < -1:
        raise TranslationError(f"memory limits {limit} and {swap} must be positive, or -1 for none")
    if limit or swap:
        result["memory"] = {"limit": limit, "swap": swap or limit} if limit else {"swap": swap}
    if resources.hugepage_limits:
        result["hugepageLimits"] = [
            {"pageSize": page.page_size, "limit": page.limit} for page in resources.hugepage_limits
        ]
    if resources.unified:
        if cgroup_version != 2:
            raise TranslationError(
                "resources.unified names files of cgroup v2, this machine has its controllers on "
                f"v1: {', '.join(sorted(resources.unified))}"
            )
        result["unified"] = dict(resources.unified)
    return result


def translate_devices(request: TranslationRequest) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return OCI ``linux.devices`` and the rules of the device cgroup."""
    nodes = [
        {
            "path": device.path,
            "type": device.kind,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        }
        for device in request.devices
    ]
    if request.security.privileged:
        return nodes, [dict(ALL_DEVICES_RULE)]
    rules = [dict(rule) for rule in DEFAULT_DEVICE_RULES]
    rules += [
        {
            "allow": True,
            "type": device.kind,
            "major": device.major,
            "minor": device.minor,
            "access": device.access,
        }
        for device in request.devices
    ]
    return nodes, rules


def translate_namespaces(request: TranslationRequest) -> list[dict[str, str]]:
    """Return OCI ``linux.namespaces``: the pod's by path, the container's own without one.

    User, network, IPC and UTS are the pod's; a name that the pod has not pinned means the host's.

    Raises:
        TranslationError: the PID mode does not fit the pod.
    """
    namespaces: list[dict[str, str]] = [{"type": "mount"}]
    for name in ("user", "network", "ipc", "uts"):
        if path := request.namespaces.get(name):
            namespaces.append({"type": name, "path": path})
    namespaces += _pid_namespace(request)
    if not request.security.privileged:
        # It sees its own cgroups as the root of the hierarchy, and nothing of its neighbours.
        namespaces.append({"type": "cgroup"})
    return namespaces


def _pid_namespace(request: TranslationRequest) -> list[dict[str, str]]:
    mode = request.security.namespace_options.pid
    if mode == cri.CONTAINER:
        return [{"type": "pid"}]
    if mode == cri.NODE:
        return []
    if mode == cri.TARGET:
        if not request.target_pid_namespace:
            raise TranslationError("PID mode TARGET needs target_id of a running container")
        return [{"type": "pid", "path": request.target_pid_namespace}]
    if path := request.namespaces.get("pid"):
        return [{"type": "pid", "path": path}]
    # POD is also what a client that says nothing asks for. A pod without a PID namespace of its
    # own shares the node's, if it was made so; else there is nothing to share and nobody to hide.
    sandbox = request.sandbox.linux.security_context.namespace_options.pid
    return [] if sandbox == cri.NODE else [{"type": "pid"}]
