"""Which of an index's manifests this machine can run (OCI image specification, image-index.md)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MACHINES: Final = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


@dataclass(frozen=True)
class Platform:
    """Operating system, processor architecture and variant, in Go's names."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """Return the platform of this machine."""
    machine = platform.machine()
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def normalise(found: Platform) -> Platform:
    """Return ``found`` with synonyms replaced and default variants written out.

    The defaults are those of containerd's platforms package: arm64 is v8, arm is v7, amd64's v1
    is the same as none.
    """
    architecture, variant = found.architecture.lower(), found.variant.lower()
    if architecture in ("x86_64", "x86-64", "aarch64", "i386"):
        architecture = _MACHINES[architecture.replace("-", "_")][0]
    if architecture == "arm64" and variant in ("", "8"):
        variant = "v8"
    elif architecture == "arm":
        variant = "v" + (variant.removeprefix("v") or "7")
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(found.os.lower() or "linux", architecture, variant)


def candidates(host: Platform) -> list[Platform]:
    """Return the platforms whose code runs on ``host``, the best one first."""
    host = normalise(host)
    options = [host]
    if host.architecture == "arm":
        level = int(host.variant[1:]) if host.variant[1:].isdigit() else 7
        options = [Platform(host.os, "arm", f"v{n}") for n in range(min(level, 9), 4, -1)]
    elif host.architecture == "amd64" and host.variant[1:].isdigit():
        level = int(host.variant[1:])
        options = [Platform(host.os, "amd64", f"v{n}") for n in range(min(level, 9), 1, -1)]
        options.append(Platform(host.os, "amd64"))
    elif host.architecture == "arm64" and host.variant != "v8":
        options = [host, Platform(host.os, "arm64", "v8")]
    return options


def select(found: Sequence[Platform | None], host: Platform) -> int | None:
    """Return the index of the platform in ``found`` that suits ``host`` best.

    None among ``found`` stands for an entry that names no platform; it is taken only when it is
    the only entry. Returns None when nothing suits.
    """
    known = [normalise(entry) if entry is not None else None for entry in found]
    for option in candidates(host):
        if option in known:
            return known.index(option)
    if len(known) == 1 and known[0] is None:
        return 0
    return None


def runs_here(found: Platform, host: Platform) -> bool:
    """Tell whether an image whose config names ``found`` can run on ``host``."""
    return normalise(found) in candidates(host)


def same_architecture(found: Platform, host: Platform) -> bool:
    """Tell whether two platforms agree but for the variant, which many configs leave out."""
    one, other = normalise(found), normalise(host)
    return (one.os, one.architecture) == (other.os, other.architecture)
