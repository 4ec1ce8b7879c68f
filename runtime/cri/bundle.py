"""The bundle of a container: its directory with the OCI configuration and the exit record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from runtime.oci.confinement import CONFIG_FILE, FILTER_FILE
from runtime.oci.seccomp_compile import compile_profile
from runtime.shim.containers import EXIT_FILE
from runtime.shim.messages import ExitRecord


def write_bundle(directory: Path, config: dict[str, Any], *, external: bool = False) -> None:
    """Make the directory with its configuration and the empty mount point of the root.

    A seccomp profile is compiled here, so that no start of the container has to; an external
    runtime compiles it itself.

    Raises:
        OSError: it exists, or the disk is full.
        TranslationError: the seccomp profile cannot be compiled.
    """
    profile = config["linux"].get("seccomp")
    program = compile_profile(profile) if profile is not None and not external else None
    directory.mkdir(mode=0o700)
    (directory / "rootfs").mkdir(mode=0o755)
    if program is not None:
        (directory / FILTER_FILE).write_bytes(program)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # The row says whether the container is complete, so the file needs no atomic replacement.
    with open(os.open(directory / CONFIG_FILE, flags, 0o600), "w", encoding="utf-8") as stream:
        json.dump(config, stream, separators=(",", ":"))


def read_config(directory: Path) -> dict[str, Any]:
    """Return the OCI configuration of a bundle.

    Raises:
        OSError, ValueError: it is gone or damaged.
    """
    config: dict[str, Any] = json.loads((directory / CONFIG_FILE).read_bytes())
    return config


def read_exit(directory: Path) -> ExitRecord | None:
    """Return the exit record that the shim left in a bundle, None if there is none that is whole.

    It is written atomically, but not flushed: a power cut can leave it empty.
    """
    try:
        return ExitRecord(**json.loads((directory / EXIT_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
