"""What this machine is, as far as settings ask for it, and what it has against them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .configuration import KubeletConfiguration

TUNABLES: Mapping[str, str] = {
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.keys.root_maxbytes": "25000000",
}
"""What the Go kubelet wants of the kernel, by sysctl. It sets them, unless protectKernelDefaults
says that they must be so already; this one leaves the machine as its owner set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine.

    Attributes:
        cgroup_version: 1 or 2.
        swap: whether swap is on.
        tunables: values of `TUNABLES`; "" for one that cannot be read.
    """

    cgroup_version: int
    swap: bool = False
    tunables: Mapping[str, str] = field(default_factory=dict)


def read_host(cgroup_version: int, proc: Path = Path("/proc")) -> Host:
    """Read the facts; what cannot be read counts as not there."""

    def text(path: Path) -> str:
        try:
            return path.read_text()
        except OSError:
            return ""

    return Host(
        cgroup_version=cgroup_version,
        # The first line is the heading.
        swap=len(text(proc / "swaps").strip().splitlines()) > 1,
        tunables={name: text(proc / "sys" / name.replace(".", "/")).strip() for name in TUNABLES},
    )


def host_problems(one: KubeletConfiguration, given: Collection[str], host: Host) -> list[str]:
    """Return what this machine has against a configuration (pure).

    Args:
        given: names of the fields that were set. failCgroupV1 and failSwapOn count only if they
            are: this kubelet does work with cgroup v1, and with swap.
        host: the machine.
    """
    found: list[str] = []
    if host.cgroup_version == 1:
        if one.fail_cgroup_v1 and "failCgroupV1" in given:
            found.append("failCgroupV1: this host uses cgroup v1; boot it with cgroup v2")
        if one.single_process_oom_kill is False:
            found.append("singleProcessOOMKill: false is not possible with cgroup v1")
    if host.swap and one.fail_swap_on and "failSwapOn" in given:
        found.append(
            "failSwapOn (--fail-swap-on): running with swap on is not supported, please disable "
            "swap or set --fail-swap-on flag to false"
        )
    if one.protect_kernel_defaults:
        for name, wanted in TUNABLES.items():
            value = host.tunables.get(name, "")
            if value != wanted:
                found.append(
                    f"protectKernelDefaults: invalid kernel flag: {name}, "
                    f"expected value: {wanted}, actual value: {value or 'not to be read'}"
                )
    return found


def apply_oom_score(score: int, proc: Path = Path("/proc/self")) -> str:
    """Set ``oomScoreAdj`` of this process; return why that cannot be, "" if it is done."""
    try:
        (proc / "oom_score_adj").write_text(str(score))
    except OSError as error:
        return f"oom_score_adj cannot be set to {score}: {error.strerror}"
    return ""
