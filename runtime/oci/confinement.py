"""The compiled system call filter of a container: from its bundle into the process.

The daemon compiles; what runs in the shim and its children knows neither libseccomp nor profiles.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeletpy_common.linux import seccomp

FILTER_FILE: Final = "seccomp.bpf"
"""Name of the compiled program in a bundle."""


@dataclass(frozen=True)
class CompiledFilter:
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


def take_compiled_filter(config: dict[str, Any], bundle: Path) -> None:
    """Replace ``linux.seccomp`` of an OCI configuration by its :class:`CompiledFilter`.

    The rules themselves would cost memory in each shim, and nobody there reads them.

    Raises:
        OSError: the bundle has no program for it: nothing may run unconfined instead.
    """
    profile = config["linux"].get("seccomp")
    if profile is None:
        return
    path = bundle / FILTER_FILE
    try:
        program = path.read_bytes()
    except FileNotFoundError as error:
        raise OSError(
            errno.ENOENT, f"{path}: the compiled seccomp profile is gone; make the container anew"
        ) from error
    flags = sum(seccomp.FILTER_FLAGS[flag] for flag in set(profile.get("flags", [])))
    config["linux"]["seccomp"] = CompiledFilter(program, flags)
