"""The server's directory, held by one server at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.options import OptionsError


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make the directory if need be, with mode 0700, and keep other servers out of it.

    The lock goes with the process, however that ends (flock(2)).

    Raises:
        OptionsError: another server has it, or it cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(directory / "lock", flags, 0o600)
    except OSError as error:
        raise OptionsError(f"--data-dir {directory} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OptionsError(
                f"--data-dir {directory} is used by another API server: stop that one, or choose "
                "another directory"
            ) from error
        yield
    finally:
        os.close(lock)
