"""JSONPaths of columns, scales and selectable fields, as Kubernetes writes them.

Source: Kubernetes documentation, "JSONPath Support": as RFC 9535, but without the ``$`` and with
backslashes before characters of a name that would mean something.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

_ESCAPED: Final = re.compile(r"\.((?:[^.\[\]\\]|\\.)*\\.(?:[^.\[\]\\]|\\.)*)")
_SIMPLE: Final = re.compile(r"(\.[A-Za-z0-9_-]+)+", re.ASCII)

Read = Callable[[Any], list[Any]]


def is_simple(path: str) -> bool:
    """Say whether a path names one field by dots alone: ``.spec.replicas``."""
    return _SIMPLE.fullmatch(path) is not None


def steps(path: str) -> tuple[str, ...]:
    """Return the names of a simple path."""
    return tuple(path.strip(".").split("."))


def get(value: Any, names: tuple[str, ...]) -> Any:
    """Return what is at a simple path, None if nothing is."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


@lru_cache(256)
def compile_path(path: str) -> Read:
    """Return what reads the values at a path.

    Raises:
        ValueError: it is none.
    """
    if is_simple(path):
        names = steps(path)

        def read(value: Any) -> list[Any]:
            found = get(value, names)
            return [] if found is None else [found]

        return read
    import jsonpath

    if not path.startswith("."):
        raise ValueError("must begin with a dot")
    try:
        compiled = jsonpath.compile("$" + _ESCAPED.sub(_quoted, path))
    except jsonpath.JSONPathError as error:
        raise ValueError(str(error)) from error

    def find(value: Any) -> list[Any]:
        try:
            return [one for one in compiled.findall(value) if one is not None]
        except jsonpath.JSONPathError:
            return []

    return find


def _quoted(found: re.Match[str]) -> str:
    name = re.sub(r"\\(.)", r"\1", found[1]).replace("'", "\\'")
    return f"['{name}']"
