"""An external OCI runtime, as it is written down with each pod that uses it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.shim.external.command_line import CommandLine
from runtime.spawner.sandbox import ROOTS_NAME


class ExternalRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """How to call an OCI runtime. A pod keeps what it was made with, whatever is configured later.

    Attributes:
        name: of the handler.
        path: absolute path of the program.
        root: directory for the state of its containers; "": one in each pod's directory.
        arguments: global options, given before the operation.
        exec_cgroups: as :class:`runtime.handlers.features.Features` says.
    """

    name: str
    path: str
    root: str = ""
    arguments: tuple[str, ...] = ()
    exec_cgroups: bool = False

    def command_line(self, sandbox_directory: Path) -> CommandLine:
        """Return how to call it for the containers of a pod."""
        return CommandLine(
            name=self.name,
            path=self.path,
            root=self.root or str(sandbox_directory / "runtime"),
            arguments=list(self.arguments),
            exec_cgroups=self.exec_cgroups,
            roots=str(sandbox_directory / ROOTS_NAME),
        )
