"""Between API structs and JSON: strict decoding with Kubernetes' field paths, and encoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from .quantity import Quantity

_T = TypeVar("_T", bound=msgspec.Struct)
_PATH = re.compile(r"^(?P<reason>.*?) - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")


class DecodeError(ValueError):
    """A document that does not fit the type.

    Attributes:
        path: the field, as ``spec.containers[0].image`` ("" is the document itself).
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def decode(document: object, into: type[_T]) -> _T:
    """Turn a document (dicts, lists, scalars, as from JSON or YAML) into an API struct.

    A null counts as absent, as in Go. Unknown fields, wrong types and numbers out of range are
    errors.

    Raises:
        DecodeError: with the path of the first misfit.
    """
    plain = _without_nulls(document)
    try:
        return msgspec.convert(plain, into, dec_hook=_from_plain)
    except msgspec.ValidationError as error:
        raise _named(_with_keys(str(error), plain, into)) from None


def encode(value: msgspec.Struct | Sequence[msgspec.Struct]) -> bytes:
    """Return ``value`` as JSON, keys in the order of the type."""
    return msgspec.json.encode(value, enc_hook=_to_plain)


def encode_sorted(value: msgspec.Struct) -> bytes:
    """Return ``value`` as JSON with sorted keys: equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_to_plain, order="sorted")


def to_builtins(value: msgspec.Struct) -> dict[str, Any]:
    """Return ``value`` as plain dicts, lists and scalars."""
    plain: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_to_plain)
    return plain


def deep_copy(value: _T) -> _T:
    """Return a copy of ``value`` that shares nothing mutable with it."""
    return msgspec.convert(
        msgspec.to_builtins(value, enc_hook=_to_plain), type(value), dec_hook=_from_plain
    )


def _from_plain(kind: type, value: object) -> object:
    if kind is Quantity:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"Expected a quantity, got `{type(value).__name__}`")
        return Quantity(value if isinstance(value, str) else repr(value))
    raise NotImplementedError(f"no decoder for {kind}")


def _to_plain(value: object) -> object:
    if isinstance(value, Quantity):
        return str(value)
    raise NotImplementedError(f"no encoder for {type(value)}")


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _with_keys(message: str, document: object, into: type[msgspec.Struct]) -> str:
    """Replace the ``[...]`` that msgspec writes for a key of a map by that key.

    The key is the one which, left alone in its map, gives the same error.
    """
    match = _PATH.match(message)
    if match is None or "[...]" not in match["path"]:
        return message
    node: object = document
    for step in _STEP.finditer(match["path"]):
        if step[2] == "...":
            break
        node = node[step[1] or int(step[2])]  # type: ignore[index]
    if not isinstance(node, dict):
        return message
    entries = dict(node)
    for key, value in entries.items():
        node.clear()
        node[key] = value
        try:
            msgspec.convert(document, into, dec_hook=_from_plain)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return message.replace("[...]", f"[{key}]", 1)
    return message


def _named(message: str) -> DecodeError:
    match = _PATH.match(message)
    path, reason = ("", message) if match is None else (match["path"], match["reason"])
    path = path.removeprefix(".")
    unknown = _UNKNOWN.match(reason)
    if unknown is not None:
        field = unknown["field"]
        return DecodeError(f"{path}.{field}" if path else field, "unknown field")
    return DecodeError(path, reason[:1].lower() + reason[1:])
