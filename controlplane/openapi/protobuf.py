"""OpenAPI version 2 as protobuf, which kubectl asks for (pure).

Source: github.com/google/gnostic-models, openapiv2/OpenAPIv2.proto: names and numbers of fields.
What a map holds there is a list of pairs of name and value; values of any type are YAML.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Final

MEDIA: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

_Write = Callable[[Any], bytes]


def encode(document: dict[str, Any]) -> bytes:
    """Return a ``Document``.

    Args:
        document: of OpenAPI 2; may use what :mod:`.paths` and :mod:`.schemas` make, no more.
    """
    return _document(document)


def _varint(value: int) -> bytes:
    found = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _block(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int) -> _Write:
    return lambda value: _block(number, value.encode())


def _texts(number: int) -> _Write:
    return lambda value: b"".join(_block(number, item.encode()) for item in value)


def _number(number: int) -> _Write:
    return lambda value: _varint(number << 3) + _varint(int(value))


def _double(number: int) -> _Write:
    return lambda value: _varint(number << 3 | 1) + struct.pack("<d", value)


def _one(number: int, write: _Write) -> _Write:
    return lambda value: _block(number, write(value))


def _many(number: int, write: _Write) -> _Write:
    return lambda value: b"".join(_block(number, write(item)) for item in value)


def _named(number: int, write: _Write) -> _Write:
    """Write a map as pairs of name and value."""
    return lambda value: b"".join(
        _block(number, _block(1, key.encode()) + _block(2, write(item)))
        for key, item in value.items()
    )


def _any(value: Any) -> bytes:
    # JSON is YAML.
    return _block(2, json.dumps(value, separators=(",", ":")).encode())


def _fields(value: dict[str, Any], table: dict[str, _Write], extensions: int) -> bytes:
    parts = [write(value[key]) for key, write in table.items() if key in value]
    parts += [
        _block(extensions, _block(1, key.encode()) + _block(2, _any(item)))
        for key, item in value.items()
        if key.startswith("x-")
    ]
    return b"".join(parts)


def _schema(value: dict[str, Any]) -> bytes:
    return _fields(value, _SCHEMA, 31)


def _items(value: dict[str, Any]) -> bytes:
    return _block(1, _schema(value))


def _additional(value: Any) -> bytes:
    return _number(2)(value) if isinstance(value, bool) else _block(1, _schema(value))


def _type(value: str | list[str]) -> bytes:
    return _texts(1)([value] if isinstance(value, str) else value)


_SCHEMA: Final[dict[str, _Write]] = {
    "$ref": _text(1), "format": _text(2), "title": _text(3), "description": _text(4),
    "default": _one(5, _any), "multipleOf": _double(6), "maximum": _double(7),
    "exclusiveMaximum": _number(8), "minimum": _double(9), "exclusiveMinimum": _number(10),
    "maxLength": _number(11), "minLength": _number(12), "pattern": _text(13),
    "maxItems": _number(14), "minItems": _number(15), "uniqueItems": _number(16),
    "maxProperties": _number(17), "minProperties": _number(18), "required": _texts(19),
    "enum": _many(20, _any), "additionalProperties": _one(21, _additional),
    "type": _one(22, _type), "items": _one(23, _items), "allOf": _many(24, _schema),
    "properties": _one(25, _named(1, _schema)), "example": _one(30, _any),
}  # fmt: skip


def _parameter(value: dict[str, Any]) -> bytes:
    if value["in"] == "body":
        body = _fields(
            value, {"name": _text(2), "in": _text(3), "required": _number(4),
                    "schema": _one(5, _schema)}, 6,
        )  # fmt: skip
        return _block(1, _block(1, body))
    if value["in"] == "path":
        kept = _fields(
            value, {"required": _number(1), "in": _text(2), "description": _text(3),
                    "name": _text(4), "type": _text(5), "uniqueItems": _number(20)}, 22,
        )  # fmt: skip
        return _block(1, _block(2, _block(4, kept)))
    kept = _fields(
        value, {"in": _text(2), "description": _text(3), "name": _text(4), "type": _text(6),
                "uniqueItems": _number(21)}, 23,
    )  # fmt: skip
    return _block(1, _block(2, _block(3, kept)))


def _response(value: dict[str, Any]) -> bytes:
    table = {"description": _text(1), "schema": _one(2, _one(1, _schema))}
    return _block(1, _fields(value, table, 5))


def _operation(value: dict[str, Any]) -> bytes:
    return _fields(value, _OPERATION, 13)


_OPERATION: Final[dict[str, _Write]] = {
    "tags": _texts(1), "description": _text(3), "operationId": _text(5), "produces": _texts(6),
    "consumes": _texts(7), "parameters": _many(8, _parameter),
    "responses": _one(9, _named(1, _response)),
}  # fmt: skip


def _path(value: dict[str, Any]) -> bytes:
    table = {
        method: _one(number, _operation)
        for method, number in (("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8))
    }
    return _fields(value, {**table, "parameters": _many(9, _parameter)}, 10)


def _info(value: dict[str, Any]) -> bytes:
    return _fields(value, {"title": _text(1), "version": _text(2)}, 7)


def _document(value: dict[str, Any]) -> bytes:
    table: dict[str, _Write] = {
        "swagger": _text(1), "info": _one(2, _info), "paths": _one(8, _named(2, _path)),
        "definitions": _one(9, _named(1, _schema)),
    }  # fmt: skip
    return _fields(value, table, 16)
