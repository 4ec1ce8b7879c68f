"""Reading a manifest: YAML or JSON, bounded, duplicate keys refused (pure)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

LARGEST_MANIFEST = 1024 * 1024
"""Bytes. The API server takes objects up to 1.5 MiB on the wire; no pod comes near it."""
_DEEPEST = 100
_MOST_NODES = 100_000

_STR = "tag:yaml.org,2002:str"
_MAP = "tag:yaml.org,2002:map"
_MERGE = "tag:yaml.org,2002:merge"


class DocumentError(ValueError):
    """The bytes are no manifest; the message says why and where."""


class _Loader(yaml.CSafeLoader):
    """CSafeLoader that reads scalars as Kubernetes' YAML library does."""


# What looks like a date stays text, and 1:20 is no number of base 60.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int",
                       "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.removeprefix("+"))
    if digits.startswith("0") and digits[1:].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse(data: bytes, *, largest: int = LARGEST_MANIFEST) -> object:
    """Return the one document in ``data`` as dicts with string keys, lists and scalars.

    Data that begins with ``{`` is JSON, all else YAML.

    Raises:
        DocumentError: not UTF-8, malformed, a duplicate key, none or several documents, or larger
            (also: after its aliases are expanded) or deeper than any pod.
    """
    if len(data) > largest:
        raise DocumentError(f"larger than {largest} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error}") from None
    try:
        return _parse_json(text) if text.lstrip().startswith("{") else _parse_yaml(text)
    except RecursionError:
        raise DocumentError(f"nested deeper than {_DEEPEST} levels") from None


def parse_all(data: bytes, *, largest: int) -> Iterator[object]:
    """Yield the documents of a YAML text, separated by ``---``; empty ones are passed over.

    Args:
        largest: bytes that it may have.

    Raises:
        DocumentError: as `parse`; with its aliases expanded it may have a node for each byte.
    """
    if len(data) > largest:
        raise DocumentError(f"larger than {largest} bytes")
    try:
        loader = _Loader(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"not UTF-8: {error}") from None
    with _told(loader):
        while loader.check_node():
            root = loader.get_node()
            if root is None:
                continue
            _check_size(root, max(_MOST_NODES, len(data)))
            document = _string_keys(loader.construct_document(root))
            if document is not None:
                yield document


@contextlib.contextmanager
def _told(loader: _Loader) -> Iterator[None]:
    """Give back the loader in the end, and tell what it could not read as a `DocumentError`."""
    try:
        yield
    except yaml.YAMLError as error:
        raise DocumentError(f"malformed YAML: {_one_line(error)}") from None
    except RecursionError:
        raise DocumentError(f"nested deeper than {_DEEPEST} levels") from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"malformed YAML: {error}") from None
    finally:
        loader.dispose()


def _parse_json(text: str) -> object:
    def refuse(constant: str) -> float:
        raise DocumentError(f"{constant} is no JSON value")

    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=refuse)
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"malformed JSON: {error}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DocumentError(f"key {key!r} is given twice in one object")
            seen.add(key)
    return result


def _parse_yaml(text: str) -> object:
    loader = _Loader(text)
    with _told(loader):
        root = loader.get_node() if loader.check_node() else None
        if root is None:
            raise DocumentError("no document in it")
        if loader.check_node():
            raise DocumentError("a second document in it: write one pod to a file")
        _check_size(root)
        return _string_keys(loader.construct_document(root))


def _check_size(root: yaml.Node, most: int = _MOST_NODES) -> None:
    """Walk the tree with every alias expanded, within a budget, and look for duplicate keys."""
    budget = most
    pending: list[tuple[yaml.Node, int]] = [(root, 1)]
    while pending:
        node, depth = pending.pop()
        budget -= 1
        if budget < 0:
            raise DocumentError(f"more than {most} nodes after its aliases are expanded")
        if depth > _DEEPEST:
            raise DocumentError(f"nested deeper than {_DEEPEST} levels")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            for key, value in node.value:
                pending += [(key, depth + 1), (value, depth + 1)]
        elif isinstance(node, yaml.SequenceNode):
            pending += [(item, depth + 1) for item in node.value]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentError(f"line {line}: a key must be a scalar")
        if key.value in seen and key.tag != _MERGE:
            raise DocumentError(f"line {line}: key {key.value!r} is given twice in one mapping")
        seen.add(key.value)


def _string_keys(value: object) -> object:
    """Turn keys into strings, as the conversion to JSON does."""
    if isinstance(value, dict):
        return {_key(key): _string_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_string_keys(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise DocumentError(f"a {type(value).__name__} is no value of a manifest")


def _key(key: object) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
