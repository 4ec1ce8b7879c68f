"""Objects of an API server -> API structs: what a newer server knows beyond us is left out.

A static manifest is decoded strictly (`codec.decode`): a slip of the pen shall be told. A server
has checked what it sends, and may be newer than this kubelet: its unknown fields are dropped, as
the Go kubelet drops them.
"""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any, TypeVar

import msgspec

from .codec import DecodeError, decode

_T = TypeVar("_T", bound=msgspec.Struct)


def decode_lenient(document: object, into: type[_T]) -> _T:
    """Turn an object of an API server into an API struct, without the fields it does not know.

    Raises:
        DecodeError: a field that is known has a wrong type; with its path.
    """
    try:
        return decode(document, into)
    except DecodeError as error:
        if error.reason != "unknown field":
            raise
    return decode(_known(document, into), into)


def _known(value: object, kind: object) -> object:
    """Return ``value`` without what ``kind`` has no field for, at any depth."""
    if isinstance(value, dict):
        struct, item = _shape(kind)
        if struct:
            return {key: _known(one, struct[key]) for key, one in value.items() if key in struct}
        return {key: _known(one, item) for key, one in value.items()} if item else value
    if isinstance(value, list):
        _, item = _shape(kind)
        return [_known(one, item) for one in value] if item else value
    return value


_Shape = tuple[dict[str, Any], Any]


@cache
def _shape(kind: Any) -> _Shape:
    """Return the fields of a struct by their JSON names, or what a list or map consists of."""
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is typing.Annotated:
        return _shape(arguments[0])
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            found = _shape(one)
            if found[0] or found[1] is not None:
                return found
        return {}, None
    if origin is list:
        return {}, arguments[0]
    if origin is dict:
        return {}, arguments[1]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {one.encode_name: hints[one.name] for one in msgspec.structs.fields(kind)}, None
    return {}, None
