"""Keys that stand twice in one object of a body, which decoders pass over silently (pure).

Source: Kubernetes documentation, "Kubernetes API Concepts", "Field validation".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import yaml

_MOST: Final = 50
"""Told of one body."""


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with all of its keys."""


def in_json(content: bytes) -> list[str]:
    """Return a sentence for each key of well-formed JSON that stands twice in its object."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        value = dict(pairs)
        found = found or len(value) != len(pairs)
        return value

    # What is nested deeper than the interpreter can follow is refused for that.
    with suppress(RecursionError, ValueError):
        json.loads(content, object_pairs_hook=look)
        if found:
            tree = json.loads(content, object_pairs_hook=_Pairs)
            return [f'duplicate field "{path}"' for path in islice(_walk(tree, ""), _MOST)]
    return []


def in_yaml(content: bytes) -> list[str]:
    """Return a sentence for each key of well-formed YAML that stands twice in its map."""
    root = yaml.compose(content, Loader=yaml.CSafeLoader)
    return list(islice(_lines(root), _MOST))


def _walk(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            below = f"{path}.{key}" if path else key
            if key in seen:
                yield below
            else:
                yield from _walk(item, below)
            seen.add(key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")


def _lines(node: Any) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield f'line {key.start_mark.line + 1}: key "{key.value}" already set in map'
                seen.add(key.value)
            yield from _lines(item)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _lines(item)
