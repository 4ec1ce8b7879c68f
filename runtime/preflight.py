"""What the runtime needs of the machine: looked at before the start, and shown by the doctor."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubeletpy_common.cgroups import CgroupError, detect, missing_controllers
from kubeletpy_common.linux import libseccomp
from kubeletpy_common.overlays import NO_UPPER_DIRECTORY, kind_of
from runtime.config import Config

_NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "cgroup")
# mount_setattr(2), Linux 5.12, is the newest call that there is no way around.
_OLDEST_KERNEL = (5, 12)
_NEEDED_CAPABILITIES = {
    "CAP_SYS_ADMIN": 21,
    "CAP_NET_ADMIN": 12,
    "CAP_SETUID": 7,
    "CAP_SETGID": 6,
    "CAP_SETPCAP": 8,
    "CAP_MKNOD": 27,
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SYS_CHROOT": 18,
}


@dataclass(frozen=True)
class Requirement:
    """One thing that the runtime needs.

    Attributes:
        name: what, in a few words.
        ok: it is there.
        detail: what was found.
        remedy: what to do if it is missing; "" if nothing is to be done.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class MissingRequirementError(Exception):
    """Something that the runtime needs is missing; the text is one line."""


def check_root(uid: int) -> Requirement:
    """Namespaces, mounts and cgroups are root's."""
    return Requirement("root", uid == 0, f"runs as user {uid}", "start it as root, with sudo")


def check_capabilities(status: str) -> Requirement:
    """Root in a container may lack what real root has."""
    effective = 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, n in _NEEDED_CAPABILITIES.items() if not effective >> n & 1]
    detail = f"missing {', '.join(missing)}" if missing else "all that are needed"
    remedy = "start it outside of containers, or in a privileged one"
    return Requirement("capabilities", not missing, detail, remedy)


def check_kernel(release: str) -> Requirement:
    """Some system calls are newer than some kernels in use."""
    parts = release.split("-")[0].split(".")[:2]
    try:
        version = tuple(int(part) for part in parts)
    except ValueError:
        version = ()
    wanted = ".".join(map(str, _OLDEST_KERNEL))
    remedy = f"boot a kernel {wanted} or newer"
    return Requirement("kernel", version >= _OLDEST_KERNEL, f"Linux {release}", remedy)


def check_python(version: tuple[int, int]) -> Requirement:
    """The language's version."""
    detail = ".".join(map(str, version))
    return Requirement("python", version >= (3, 11), f"Python {detail}", "use Python 3.11 or newer")


def check_overlayfs(filesystems: str, modules: str = "") -> Requirement:
    """Containers' roots are overlays.

    Args:
        filesystems: /proc/filesystems, which lists what is built in or loaded.
        modules: modules.dep(5) of the kernel; mount(2) loads a file system that is in it.
    """
    known = {line.split()[-1] for line in filesystems.splitlines() if line.strip()}
    if "overlay" in known:
        return Requirement("overlayfs", True, "the kernel has it")
    if re.search(r"/overlay\.ko\S*:", modules):
        return Requirement("overlayfs", True, "a module, loaded when it is needed")
    remedy = "run `modprobe overlay`, or boot a kernel that has it"
    return Requirement("overlayfs", False, "neither in /proc/filesystems nor a module", remedy)


def _modules() -> str:
    try:
        return Path("/lib/modules", os.uname().release, "modules.dep").read_text()
    except OSError:
        return ""


def check_namespaces(present: set[str]) -> Requirement:
    """Each kind of namespace that pods use."""
    missing = [name for name in _NAMESPACES if name not in present]
    detail = f"missing {', '.join(missing)}" if missing else ", ".join(_NAMESPACES)
    remedy = "boot a kernel that is built with these namespaces"
    return Requirement("namespaces", not missing, detail, remedy)


def check_program(name: str, path: str | None, package: str) -> Requirement:
    """A program that is run at the start of the network."""
    detail = path or "not found in PATH"
    return Requirement(name, path is not None, detail, f"run `apt-get install {package}`")


def check_seccomp(look: Callable[[], object]) -> Requirement:
    """The compiler of system call filters.

    Args:
        look: loads it; an OSError says why it cannot be.
    """
    try:
        look()
    except OSError as error:
        return Requirement("libseccomp", False, str(error), "run `apt-get install libseccomp2`")
    return Requirement("libseccomp", True, "libseccomp.so.2")


def check_cgroups(mountpoint: str) -> Requirement:
    """The controllers that limits and statistics need."""
    try:
        hierarchy = detect(mountpoint)
        missing = missing_controllers(hierarchy)
    except CgroupError as error:
        return Requirement("cgroups", False, error.reason, error.remedy)
    except OSError as error:
        return Requirement("cgroups", False, str(error), f"mount cgroups on {mountpoint}")
    if missing:
        names = ", ".join(item.name for item in missing)
        detail = f"cgroup v{hierarchy.version} without {names}"
        return Requirement("cgroups", False, detail, missing[0].remedy)
    detail = f"v{hierarchy.version}: {', '.join(sorted(hierarchy.controllers()))}"
    return Requirement("cgroups", True, detail)


def check_disk(directory: Path, look: Callable[[Path], str] = kind_of) -> Requirement:
    """The directory that containers' own files are kept in, as the upper one of an overlay.

    Args:
        directory: the runtime's ``root``.
        look: gives the kind of its file system.
    """
    name = "file system of root"
    try:
        kind = look(directory)
    except OSError as error:
        return Requirement(name, False, f"{directory}: {error.strerror}", "mend that disk")
    reason = NO_UPPER_DIRECTORY.get(kind, "")
    remedy = (
        f"put it on ext4, xfs, btrfs or tmpfs (--root); of a container, make {directory} a volume"
    )
    detail = f"{directory} is on {kind or 'a file system that is not told'}"
    if reason:
        return Requirement(name, False, f"{detail}: {reason}", remedy)
    return Requirement(name, True, detail)


def check_state(config: Config) -> Requirement:
    """What an earlier version of the runtime left, pods that run included."""
    # Not needed for the other checks, and takes as long to load as all of them.
    from runtime.hostfacts import boot_id
    from runtime.state import takeover

    try:
        problem, remedy = takeover.problem(config.root / "state.db", boot_id())
    except OSError as error:
        return Requirement("state", False, str(error), f"look at {config.root}")
    detail = problem or f"{config.root}: this version can go on with it"
    return Requirement("state", not problem, detail, remedy)


def run_checks(config: Config) -> list[Requirement]:
    """Look at everything, cheapest first; nothing is changed."""
    checks: list[Callable[[], Requirement]] = [
        lambda: check_root(os.geteuid()),
        lambda: check_capabilities(Path("/proc/self/status").read_text()),
        lambda: check_kernel(os.uname().release),
        lambda: check_python(sys.version_info[:2]),
        lambda: check_overlayfs(Path("/proc/filesystems").read_text(), _modules()),
        lambda: check_namespaces(set(os.listdir("/proc/self/ns"))),
        lambda: check_cgroups(config.cgroups.mountpoint),
        lambda: check_disk(config.root),
        lambda: check_seccomp(libseccomp.native_architecture),
        lambda: check_program("iptables", shutil.which("iptables-restore"), "iptables"),
    ]
    if config.network.subnet_v6 and config.network.ipv6_required:
        checks.append(
            lambda: check_program("ip6tables", shutil.which("ip6tables-restore"), "iptables")
        )
    return [check() for check in checks]


def require(requirements: list[Requirement]) -> None:
    """Go on only if nothing is missing.

    Raises:
        MissingRequirementError: one line that names everything that is missing, and the remedies.
    """
    missing = [item for item in requirements if not item.ok]
    if missing:
        parts = [f"{item.name} ({item.detail}; {item.remedy})" for item in missing]
        raise MissingRequirementError(f"cannot run pods here, missing: {', '.join(parts)}")
