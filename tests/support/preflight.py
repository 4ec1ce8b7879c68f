"""What privileged tests need of a machine, tried for real; standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

WITHOUT_VARIABLE = "KUBELETPY_TESTS_WITHOUT"
"""Names programs, in words, that none of the tests that were chosen needs."""
_PROGRAMS = (
    *("busybox", "containerd", "docker-registry", "ip", "iptables", "kubectl", "nsenter"),
    *("nft", "podman", "runc", "setpriv", "skopeo", "umoci", "unshare"),
)
_OVERLAY = (
    "mount -t tmpfs tmpfs /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m && "
    "mount -t overlay overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
)
_VETH = "ip link add tvb type bridge && ip link add tva type veth peer name tvc"


def problems() -> Iterator[str]:
    """Yield one line for each thing that is missing, with what to do about it."""
    if os.geteuid() != 0:
        yield "root tests need root: start them with sudo"
        return
    without = os.environ.get(WITHOUT_VARIABLE, "").split()
    wanted = (program for program in _PROGRAMS if program not in without)
    absent = [program for program in wanted if shutil.which(program) is None]
    if absent:
        yield f"missing programs: {' '.join(absent)}; tests/run installs their Debian packages"
        return
    for check in _CHECKS:
        problem = check()
        if problem:
            yield problem


def _namespaces() -> str:
    return _tried("true", "cannot make namespaces: the kernel lacks some, or CAP_SYS_ADMIN is gone")


def _overlay() -> str:
    return _tried(_OVERLAY, "cannot mount overlayfs; try: modprobe overlay")


def _links() -> str:
    return _tried(_VETH, "cannot make bridge and veth links; try: modprobe bridge veth")


def _iptables() -> str:
    rule = "-t nat -A POSTROUTING -j MASQUERADE"
    return _tried(f"iptables {rule} && ip6tables {rule}", "iptables cannot masquerade")


def _cgroups() -> str:
    hierarchies = [
        line.split(" - ")[1].split()[0]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup" in line
    ]
    if not hierarchies:
        return "no cgroup file system is mounted; mount one on /sys/fs/cgroup"
    return ""


_CHECKS: tuple[Callable[[], str], ...] = (_namespaces, _overlay, _links, _iptables, _cgroups)


def _tried(script: str, problem: str) -> str:
    """Run ``script`` in namespaces of its own; return "" or ``problem`` with the reason."""
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode == 0:
        return ""
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"{problem} ({reason})"
