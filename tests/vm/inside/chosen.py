"""Which tests run in the virtual machine, and why the others of ``tests/root`` do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_CGROUPS: Final = (
    "test_kill_ends_a_fork_bomb", "test_the_freezer_alone_ends_a_fork_bomb",
    "test_memory_limit_kills_and_is_counted",
)  # fmt: skip
_PODS: Final = ("test_limits_are_set_and_changed_in_place", "test_an_oom_kill_is_told")
_MORE: Final = (
    "test_devices_are_those_granted", "test_a_frozen_crowd_is_stopped",
    "test_a_killed_daemon_takes_its_pods_over",
)  # fmt: skip
_NOTICE: Final = "test_the_kernel_rings_when_memory_passes_a_threshold"
_NODE: Final = ("test_a_pod_in_slices", "test_services_that_are_killed_are_started_anew")

BRIEF: Final = (
    *(f"tests/root/common/test_cgroups.py::{name}" for name in _CGROUPS),
    *(f"tests/vm/inside/test_drivers.py::{name}[cgroupfs]" for name in _PODS),
    *(f"tests/vm/inside/test_drivers.py::{name}[systemd]" for name in (*_PODS, *_MORE)),
    f"tests/root/kubeletpy/eviction/test_node.py::{_NOTICE}",
    "tests/vm/inside/test_service.py::test_a_service_is_reached[nftables]",
    *(f"tests/vm/inside/services/test_node.py::{name}" for name in _NODE),
)  # fmt: skip
"""The essence: both drivers, OOM kills, exec, devices, the signal of an eviction, a Service, and a
joined node whose services are killed."""

ALL: Final = (
    "tests/root/common/test_cgroups.py",
    "tests/root/common/test_bpf_devices.py",
    "tests/root/kubeletpy/eviction",
    "tests/vm/inside/test_drivers.py",
    "tests/vm/inside/test_systemd.py",
    "tests/vm/inside/test_service.py",
    "tests/vm/inside/services",
    "tests/vm/inside/test_container.py",
)
"""What depends on cgroups and on PID 1."""

_CRI: Final = (
    *("limits", "updates", "stats", "lifecycle", "exec", "recovery", "security", "mounts"),
)
LONG: Final = (
    "tests/root/common",
    "tests/root/kubeletpy/resources",
    "tests/root/kubeletpy/eviction",
    *(f"tests/root/runtime/cri/test_{name}.py" for name in _CRI),
    "tests/root/runtime/shim",
    "tests/root/kubeletpy/apiserver/test_resources.py",
    "tests/root/kubeletpy/pods",
    "tests/root/kubeletpy/engine",
    "tests/root/proxy",
    "tests/root/runtime/cri",
    "tests/root/kubeletpy",
    "tests/root/runtime/network",
    "tests/root/runtime/unpacker",
    "tests/root/runtime/images",
    "tests/root/runtime/transfer",
    "tests/root/runtime/durability",
)
"""The privileged tests of runtime, kubelet and proxy: what cgroups and systemd concern most first.

Together they take hours on an emulated processor; any of them can be asked for by name.
"""


def chosen(asked: str) -> list[str]:
    """Return pytest's arguments for what the one who booted the machine asks for."""
    forms = {"brief": BRIEF, "all": ALL, "long": LONG}
    return [*forms[asked]] if asked in forms else asked.split("\n")


def place(name: str, order: Sequence[str]) -> int:
    """Return which of ``order`` a test belongs to: the first that is it or that it is in."""
    for number, each in enumerate(order):
        if name == each or name.startswith((f"{each}/", f"{each}::", f"{each}[")):
            return number
    return len(order)
