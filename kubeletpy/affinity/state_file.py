"""A small JSON file of state: written atomically, and set aside if it cannot be understood."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

_log = logging.getLogger(__name__)
_LARGEST = 64 * 1024 * 1024


class StateError(Exception):
    """A state file that cannot be used; the message says why."""


def read_state(path: Path) -> dict[str, Any] | None:
    """Return the object in a file, or None if there is no file.

    Raises:
        StateError: it cannot be read, or is no JSON object.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise StateError(f"larger than {_LARGEST} bytes")
        document = json.loads(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(str(error)) from error
    if not isinstance(document, dict):
        raise StateError("no JSON object")
    return document


def write_state(path: Path, document: Mapping[str, Any]) -> None:
    """Write an object to a file that survives a power cut.

    Raises:
        OSError: it cannot be written; the old content is still there.
    """
    content = json.dumps(document, separators=(",", ":"))
    write_atomic(path, content, sync=True)


def set_aside(path: Path, why: str) -> Path:
    """Rename a file that cannot be used, so that a person can look at it; return its new name."""
    aside = path.with_name(f"{path.name}.corrupt")
    with contextlib.suppress(OSError):
        path.replace(aside)
    logs.event(_log, logging.ERROR, "state set aside", path=str(path), now=str(aside), reason=why)
    return aside
