"""Failures of the image store's disk, as errors of images."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from runtime.images.errors import NoSpace, StoreError
from runtime.images.space import describe

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the kernel says of a disk, or of a quota, that is full."""


@contextmanager
def disk_errors(what: str, where: Path | None = None) -> Iterator[None]:
    """Turn an ``OSError`` of the image store's disk into an :class:`ImageError`.

    Args:
        what: is tried, for the error.
        where: a path on that disk, so that the error can say how full it is.

    Raises:
        NoSpace: the disk is full.
        StoreError: any other failure.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            # Measured now: what is cleared away after this failure would hide the cause.
            remedy = describe(where) if where else "free space on the disk of the image store"
            raise NoSpace(f"{what}: {error.strerror}: {remedy}") from error
        raise StoreError(f"{what}: {error}") from error
