"""What confines a container beyond its first process: what an exec shares, and the compiled filter.

The daemon compiles; what runs in the shim and its children knows neither libseccomp nor profiles.
"""

from __future__ import annotations

import errno
import os

from kubeletpy_common.linux import seccomp
from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from runtime.shim.messages import StrPath

CONFIG_FILE: Final = "config.json"
"""Name of the OCI configuration in a bundle."""
FILTER_FILE: Final = "seccomp.bpf"
"""Name of the compiled program in a bundle."""


class CompiledFilter(Record):
    """A system call filter as the kernel takes it.

    Attributes:
        program: ``struct sock_filter`` after ``struct sock_filter``.
        flags: for seccomp(2).
    """

    program: bytes
    flags: int

    def load(self) -> None:
        """Have the kernel apply it to this process, for good.

        Raises:
            OSError: the kernel refused.
        """
        seccomp.load_filter(self.program, self.flags)


def shared_confinement(config: dict[str, Any]) -> dict[str, Any]:
    """Return what further processes of a container need of its configuration's ``linux``.

    A shim keeps it for as long as the container runs: the rules of the seccomp profile, which
    nobody there reads, are left out.
    """
    linux = config["linux"]
    kept = ("namespaces", "uidMappings", "gidMappings")
    shared = {key: linux[key] for key in kept if linux.get(key)}
    profile = linux.get("seccomp")
    return shared if profile is None else {**shared, "seccomp": {"flags": profile.get("flags", [])}}


def read_compiled_filter(linux: Mapping[str, Any], bundle: StrPath) -> CompiledFilter | None:
    """Return the filter that stands for ``linux.seccomp``, None for a container without.

    Raises:
        OSError: the bundle has no program for it: nothing may run unconfined instead.
    """
    profile = linux.get("seccomp")
    if profile is None:
        return None
    path = os.path.join(bundle, FILTER_FILE)
    try:
        with open(path, "rb") as stream:
            program = stream.read()
    except FileNotFoundError as error:
        raise OSError(
            errno.ENOENT, f"{path}: the compiled seccomp profile is gone; make the container anew"
        ) from error
    flags = sum(seccomp.FILTER_FLAGS[flag] for flag in set(profile.get("flags", [])))
    return CompiledFilter(program, flags)
