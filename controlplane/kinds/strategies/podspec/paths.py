"""Checks of paths of files that are written into volumes and mounts (pure)."""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong


def check_no_backsteps(text: str, path: str) -> list[Cause]:
    """Return that a path goes up somewhere, if it does."""
    return [wrong(path, text, "must not contain '..'")] if ".." in text.split("/") else []


def check_descending(text: str, path: str) -> list[Cause]:
    """Return what keeps a path from staying below where it is put."""
    causes = [wrong(path, text, "must be a relative path")] if text.startswith("/") else []
    return causes + check_no_backsteps(text, path)


def check_file_path(text: str, path: str) -> list[Cause]:
    """Return what is wrong with the path of a file in a volume.

    Names that begin with two dots are the writer's own (atomic updates of volumes).
    """
    causes = check_descending(text, path)
    if text.startswith("..") and not text.startswith("../"):
        causes.append(wrong(path, text, "must not start with '..'"))
    return causes


def check_mode(value: dict[str, Any], key: str, path: str) -> list[Cause]:
    """Return that a mode of files is none."""
    mode = value.get(key)
    if mode is None or 0 <= mode <= 0o777:
        return []
    text = "must be a number between 0 and 0777 (octal), both inclusive"
    return [wrong(f"{path}.{key}", mode, text)]
