"""Which tests run in the virtual machine, and why the others of ``tests/root`` do not."""

from __future__ import annotations

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
_NODE: Final = ("test_a_pod_in_slices", "test_services_that_are_killed_are_started_anew")

BRIEF: Final = (
    *(f"tests/root/common/test_cgroups.py::{name}" for name in _CGROUPS),
    *(f"tests/vm/inside/test_drivers.py::{name}[cgroupfs]" for name in _PODS),
    *(f"tests/vm/inside/test_drivers.py::{name}[systemd]" for name in (*_PODS, *_MORE)),
    *(f"tests/vm/inside/services/test_node.py::{name}" for name in _NODE),
)  # fmt: skip
"""The essence: both drivers, OOM kills, exec, devices, a joined node whose services are killed."""

ALL: Final = (
    "tests/root/common/test_cgroups.py",
    "tests/root/common/test_bpf_devices.py",
    "tests/root/kubeletpy/eviction",
    "tests/vm/inside/test_drivers.py",
    "tests/vm/inside/test_systemd.py",
    "tests/vm/inside/services",
)
"""The long form: what depends on cgroups and on PID 1.

Of the rest of ``tests/root`` some names files of cgroup v1, some measures time, and together it
would take hours on an emulated processor. Any of it can be asked for by pytest's arguments.
"""


def chosen(asked: str) -> list[str]:
    """Return pytest's arguments for what the one who booted the machine asks for."""
    return {"brief": [*BRIEF], "all": [*ALL]}.get(asked) or asked.split("\n")
