"""The systems that the virtual machine can be: a Debian or an Ubuntu, and the Python that it has.

The checkout and the packages of an environment are put into the machine, whose own Python runs
them, so that the environment has to be of the same version.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy import bootstrap
from tests.support.pythons import find_python

VARIABLE: Final = "KUBELETPY_VM_SYSTEM"
"""Names the machine's system; without it, it is the Debian that has the Python of this process."""


class ImageError(Exception):
    """A disk cannot be made, or nothing can run on it; the message says why."""


@dataclass(frozen=True)
class System:
    """A release of a distribution.

    Attributes:
        name: as the command line names it.
        suite: as apt names it.
        python: version of its ``python3``.
        packages: its kernel, and what unpacks that one's modules.
        absent: packages of the tests that it does not have.
        components: of its archive.
    """

    name: str
    suite: str
    python: tuple[int, int]
    packages: tuple[str, ...]
    absent: frozenset[str] = frozenset()
    components: str = "main"

    @property
    def distribution(self) -> str:
        """Return ``debian`` or ``ubuntu``."""
        return self.name.partition("-")[0]


_DEBIAN_12: Final = System("debian-12", "bookworm", (3, 11), ("linux-image-cloud-amd64",))
_DEBIAN_13: Final = System("debian-13", "trixie", (3, 13), ("linux-image-cloud-amd64", "xz-utils"))
_UBUNTU_24: Final = System(
    "ubuntu-24.04", "noble", (3, 12), ("linux-image-virtual", "zstd"),
    frozenset({"kubernetes-client"}), "main,universe",
)  # fmt: skip
SYSTEMS: Final[Mapping[str, System]] = {
    each.name: each for each in (_DEBIAN_12, _DEBIAN_13, _UBUNTU_24)
}


def chosen(environment: Mapping[str, str] = os.environ) -> System:
    """Return the system that is asked for, or the Debian that has this process's Python.

    Raises:
        ImageError: there is none.
    """
    name = environment.get(VARIABLE, "")
    if not name:
        return of_this_python()
    try:
        return SYSTEMS[name]
    except KeyError:
        known = ", ".join(SYSTEMS)
        raise ImageError(f"there is no system {name!r} for the machine; known: {known}") from None


def of_this_python() -> System:
    """Return the Debian whose ``python3`` can use the packages of this environment.

    Raises:
        ImageError: there is none.
    """
    debians = [each for each in SYSTEMS.values() if each.distribution == "debian"]
    for each in debians:
        if each.python == sys.version_info[:2]:
            return each
    known = " or ".join(f"{each.python[0]}.{each.python[1]}" for each in debians)
    raise ImageError(
        f"no Debian has Python {sys.version_info[0]}.{sys.version_info[1]}: run the tests in a "
        f"virtual machine from an environment of Python {known}, or name its system: {VARIABLE}"
    )


@dataclass(frozen=True)
class Packages:
    """An environment as the machine needs it.

    Attributes:
        python: its interpreter, which compiles.
        site: the directory with its packages.
    """

    python: Path
    site: Path


def packages_for(system: System) -> Packages:
    """Return an environment of the system's Python: this one, or another one, made if need be.

    Raises:
        ImageError: there is no such Python on this machine.
        BootstrapError: the environment cannot be made.
    """
    if system.python == sys.version_info[:2]:
        site = next(path for path in sys.path if path.endswith("site-packages"))
        return Packages(Path(sys.executable), Path(site))
    version = ".".join(map(str, system.python))
    base = find_python(version)
    if base is None:
        raise ImageError(
            f"{system.name} has Python {version}, and this machine none of that version to make an "
            "environment with: install one, on PATH or by pyenv"
        )
    environment = bootstrap.Environment(name=f".venv-{version}", base=base)
    environment.ensure(("dev",))
    asked = [
        str(environment.python),
        "-c",
        "import sysconfig; print(sysconfig.get_path('purelib'))",
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    return Packages(environment.python, Path(done.stdout.strip()))
