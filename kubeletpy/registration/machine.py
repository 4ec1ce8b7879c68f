"""What the machine is: identities, versions, sizes; read once at the start."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386",
    "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "loongarch64": "loong64",
}  # fmt: skip
"""Go's names (GOARCH), which images and node labels use, by the kernel's."""
_UUIDS = ("sys/class/dmi/id/product_uuid", "proc/device-tree/vm,uuid", "etc/machine-id")
_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts about the machine.

    Attributes:
        machine_id, system_uuid, boot_id: identities; boot_id changes with each boot.
        kernel: release of the kernel.
        os_image: name of the distribution.
        architecture: as Go names it.
        cpus: logical ones.
        memory, swap: bytes.
        storage: bytes of the file system of the kubelet's directory.
        hugepages: bytes preallocated, by size of a page.
    """

    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel: str = ""
    os_image: str = "Unknown"
    architecture: str = "amd64"
    cpus: int = 1
    memory: int = 0
    swap: int = 0
    storage: int = 0
    hugepages: Mapping[int, int] = field(default_factory=dict)


def read_machine(root_dir: Path, *, cpus: int, root: Path = Path("/")) -> Machine:
    """Read the facts.

    Args:
        root_dir: the kubelet's directory; its file system is the node's ephemeral storage.
        cpus: logical ones.
        root: where /etc, /proc and /sys are.
    """
    memory = _meminfo(_text(root / "proc/meminfo"))
    try:
        storage = os.statvfs(root_dir)
        size = storage.f_blocks * storage.f_frsize
    except OSError:
        size = 0
    return Machine(
        machine_id=_first(root, _IDS),
        system_uuid=_first(root, _UUIDS),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        kernel=os.uname().release,
        os_image=os_image(_text(root / "etc/os-release") or _text(root / "usr/lib/os-release")),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        cpus=cpus,
        memory=memory.get("MemTotal", 0),
        swap=memory.get("SwapTotal", 0),
        storage=size,
        hugepages=_hugepages(root / "sys/kernel/mm/hugepages"),
    )


def os_image(release: str) -> str:
    """Return the name of the distribution from os-release(5)."""
    found = re.search(r"""^PRETTY_NAME=(["']?)(.*)\1$""", release, re.MULTILINE)
    return found[2] if found else "Linux"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _first(root: Path, paths: tuple[str, ...]) -> str:
    return next((text for path in paths if (text := _text(root / path))), "")


def _meminfo(text: str) -> dict[str, int]:
    """Return bytes by name."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def _hugepages(directory: Path) -> dict[int, int]:
    found = {}
    for entry in directory.iterdir() if directory.is_dir() else ():
        match = re.fullmatch(r"hugepages-(\d+)kB", entry.name)
        number = _text(entry / "nr_hugepages")
        if match and number.isdigit():
            size = int(match[1]) * 1024
            found[size] = size * int(number)
    return found
