"""Programs that are run, and the Debian packages they come in."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kubeletpy import debian
from kubeletpy.doctor.finding import Finding, fine, warning
from kubeletpy.doctor.looking import program
from kubeletpy.doctor.purpose import Purpose

# What the runtime must have is in its own check.
_NODE = (
    debian.Package("nftables", "shows the rules that the proxy makes", "nft"),
    debian.Package("kmod", "loads the modules that the network needs", "modprobe"),
    debian.Package(
        "ca-certificates", "lets pulls verify registries", "/etc/ssl/certs/ca-certificates.crt"
    ),
)


@dataclass(frozen=True)
class Facts:
    """What is wanted, and which of it is missing."""

    wanted: tuple[debian.Package, ...]
    absent: tuple[debian.Package, ...]


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(purpose), purpose)


def gather(purpose: Purpose) -> Facts:
    """Read the facts; ``up`` asks for packages, for it installs them."""
    if purpose.name == "up":
        return Facts(debian.TOUR, tuple(debian.missing(debian.TOUR)))
    return Facts(_NODE, tuple(one for one in _NODE if not _there(one.program)))


def _there(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else program(name) is not None


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    found = []
    for package in facts.wanted:
        if package not in facts.absent:
            found.append(fine(package.name, package.why, purpose.name))
            continue
        remedy = f"apt-get install {package.name}"
        if purpose.name == "up":
            remedy += " (`kubeletpy up` does it by itself)"
        said = f"missing; it {package.why}"
        found.append(warning(package.name, said, purpose.name, remedy))
    return found
