"""Which handlers there are, and which of them a pod gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from runtime.config import BUILT_IN, Config, RuntimeSettings
from runtime.handlers.external import ExternalRuntime


class UnknownHandlerError(ValueError):
    """A pod asks for a handler that is not configured."""


class MissingProgramError(OSError):
    """The program of a handler is not there, or cannot be executed."""


class Handlers:
    """The configured handlers.

    Args:
        config: the settings.
    """

    def __init__(self, config: Config) -> None:
        self._settings: Mapping[str, RuntimeSettings] = config.runtimes
        self.default: Final = config.default_runtime

    def names(self) -> list[str]:
        """Return the names of all handlers: the default as "", the built-in one, the others."""
        return ["", BUILT_IN, *sorted(self._settings)]

    def resolve(self, asked: str) -> ExternalRuntime | None:
        """Return the external runtime that a pod gets, None for the built-in one.

        Args:
            asked: the handler's name; "" is the default.

        Raises:
            UnknownHandlerError: nobody configured it.
        """
        name = asked or self.default
        if name == BUILT_IN:
            return None
        settings = self._settings.get(name)
        if settings is None:
            known = ", ".join(self.names()[1:])
            raise UnknownHandlerError(
                f"runtime_handler {name!r} is not configured; known are {known}; an OCI runtime's "
                f'program becomes one by [runtimes.{name}] path = "..." in the config file'
            )
        return ExternalRuntime(
            name=name,
            path=str(settings.path),
            root=str(settings.root) if settings.root else "",
            arguments=settings.args,
        )


def check_program(external: ExternalRuntime) -> None:
    """Look whether a handler's program can be executed.

    Raises:
        MissingProgramError: it cannot; says what to do.
    """
    if not os.path.isfile(external.path):
        problem = "is not there"
    elif not os.access(external.path, os.X_OK):
        problem = "is not executable"
    else:
        return
    raise MissingProgramError(
        f"runtime handler {external.name!r}: its program {external.path} {problem}: install it, or "
        f"correct [runtimes.{external.name}] path"
    )
