"""The machine's interpreters, which compile a package's modules for their versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.console import CommandFailed, run_shown
from kubeletpy.packaging import compiled
from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.manifest import Compiled, Pinned, digest

_SECONDS: Final = 60
_ASK: Final = (
    "import sys, importlib.util as u; "
    "print(sys.implementation.name, '%d.%d' % sys.version_info[:2], u.MAGIC_NUMBER.hex())"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine.

    Attributes:
        path: its program.
        magic: what its compiled modules begin with, in hexadecimal.
    """

    path: str
    magic: str


def find(python: str) -> Interpreter | None:
    """Return the CPython of a version, such as ``3.11``; None if this machine has none."""
    for candidate in (sys.executable, f"/usr/bin/python{python}", shutil.which(f"python{python}")):
        if candidate is None:
            continue
        try:
            done = subprocess.run(
                [candidate, "-I", "-c", _ASK],
                capture_output=True, text=True, check=False, timeout=_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        # What pyenv puts into the path is there for versions that it has not.
        match done.stdout.split():
            case ["cpython", version, magic] if version == python:
                return Interpreter(candidate, magic)
    return None


def compile_wheels(python: str, wheels: Iterable[Pinned], directory: Path) -> Compiled | None:
    """Compile the modules of wheels for a version of Python.

    Args:
        python: the version.
        wheels: which ones.
        directory: where they are, and where the archive is put.

    Returns:
        None if this machine has no such interpreter: others then compile when they install.

    Raises:
        PackagingError: it failed.
    """
    interpreter = find(python)
    if interpreter is None:
        return None
    output = directory / f"compiled-{python}.zip"
    command = [interpreter.path, "-I", str(Path(compiled.__file__)), str(output)]
    command += [f"{wheel.sha256}={directory / wheel.file}" for wheel in wheels]
    try:
        run_shown(f"Compiling for Python {python}", command)
    except CommandFailed as error:
        raise PackagingError(str(error)) from error
    return Compiled(output.name, digest(output), interpreter.magic)
