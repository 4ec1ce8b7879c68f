"""Objects that come as protobuf, which Go clients prefer to send (pure).

Source: Kubernetes documentation, "Kubernetes Protobuf encoding": four bytes ``k8s\\0`` and a
``runtime.Unknown`` with the kind and the object; Protocol Buffers documentation, "Encoding". The
numbers of the fields come from a table, so no generated code is needed. Only decoding is here:
answers are JSON, which every client accepts.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

MAGIC: Final = b"k8s\x00"
MEDIA: Final = "application/vnd.kubernetes.protobuf"
_MAX_DEPTH: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ProtobufError(ValueError):
    """The bytes are no object."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: str
    list: bool = False
    map: str = ""
    inline: bool = False
    zero: bool = False


def decode_object(content: bytes, kinds: dict[str, str]) -> dict[str, Any]:
    """Return the object that an envelope holds, as JSON would have it.

    Args:
        content: the body of a request.
        kinds: names of types by ``group/version/Kind``.

    Raises:
        ProtobufError: it is none, or of an unknown kind.
    """
    if not content.startswith(MAGIC):
        raise ProtobufError("it does not begin with the bytes of the Kubernetes encoding")
    kind = api_version = ""
    raw = b""
    for number, wire, value in _fields(memoryview(content)[len(MAGIC) :]):
        if wire != _BYTES:
            continue
        if number == 1:
            for below, below_wire, text in _fields(value):
                if below_wire == _BYTES and below == 1:
                    api_version = _text(text)
                elif below_wire == _BYTES and below == 2:
                    kind = _text(text)
        elif number == 2:
            raw = value
    name = kinds.get(f"{api_version}/{kind}")
    if name is None:
        # Options and the like have the version of the group that they go with.
        name = f"meta.v1.{kind}"
    if name not in _table():
        raise ProtobufError(f"there is no kind {kind!r} in {api_version!r}")
    decoded = _message(name, raw, 0)
    return {"apiVersion": api_version, "kind": kind, **decoded}


@cache
def _table() -> dict[str, dict[int, _Field]]:
    document = json.loads((Path(__file__).parent / "protobuf.json").read_bytes())
    return {
        name: {int(number): _Field(**facts) for number, facts in fields.items()}
        for name, fields in document.items()
    }


def _message(name: str, data: Any, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ProtobufError(f"nested deeper than {_MAX_DEPTH} levels")
    known = _table()[name]
    result: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = known.get(number)
        if field is None:
            continue
        if field.map:
            key, item = _entry(field, value, wire, depth)
            result.setdefault(field.name, {})[key] = item
            continue
        decoded = _value(field, value, wire, depth)
        if field.inline and isinstance(decoded, dict):
            result.update(decoded)
        elif field.list:
            result.setdefault(field.name, []).append(decoded)
        elif decoded is not None and (field.zero or decoded not in ("", 0, False)):
            # What is no pointer in Go is sent even when it is not set.
            result[field.name] = decoded
    return result


def _entry(field: _Field, data: Any, wire: int, depth: int) -> tuple[str, Any]:
    if wire != _BYTES:
        raise ProtobufError(f"{field.name}: an entry of a map is no message")
    one = _Field(field.name, field.type)
    key, item = "", None
    for number, kind, value in _fields(data):
        if number == 1 and kind == _BYTES:
            key = _text(value)
        elif number == 2:
            item = _value(one, value, kind, depth)
    return key, _absent(field.type) if item is None else item


def _absent(kind: str) -> Any:
    return {"string": "", "bytes": "", "#util.Quantity": "0"}.get(kind, {})


def _value(field: _Field, value: Any, wire: int, depth: int) -> Any:
    kind = field.type
    if kind.startswith("#"):
        if wire != _BYTES:
            raise ProtobufError(f"{field.name}: is no message")
        special = _SPECIAL.get(kind[1:])
        return special(value) if special else _message(kind[1:], value, depth + 1)
    if kind in ("string", "bytes"):
        if wire != _BYTES:
            raise ProtobufError(f"{field.name}: is no text")
        return _text(value) if kind == "string" else base64.b64encode(value).decode()
    if kind == "double":
        if wire != _FIXED64:
            raise ProtobufError(f"{field.name}: is no number")
        return struct.unpack("<d", value)[0]
    if wire != _VARINT:
        raise ProtobufError(f"{field.name}: is no integer")
    return bool(value) if kind == "bool" else value - (1 << 64) if value >> 63 else value


def _fields(data: Any) -> list[tuple[int, int, Any]]:
    view, at = memoryview(data), 0
    found: list[tuple[int, int, Any]] = []
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(view, at)
            found.append((number, wire, value))
            continue
        if wire == _BYTES:
            size, at = _varint(view, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"unknown wire type {wire}")
        if at + size > len(view):
            raise ProtobufError("it is cut off")
        found.append((number, wire, view[at : at + size]))
        at += size
    return found


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ProtobufError("it is cut off")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & ((1 << 64) - 1), at


def _text(data: Any) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise ProtobufError(f"text is not UTF-8: {error}") from error


def _numbers(data: Any) -> dict[int, Any]:
    return {number: value for number, _, value in _fields(data)}


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise ProtobufError("a time is made of integers")
    return value - (1 << 64) if value >> 63 else value


def _moment(data: Any) -> tuple[datetime, int] | None:
    parts = _numbers(data)
    if not parts:
        return None
    try:
        nanos = _signed(parts.get(2, 0))
        return _EPOCH + timedelta(seconds=_signed(parts.get(1, 0))), nanos
    except OverflowError as error:
        raise ProtobufError(f"a time is out of range: {error}") from error


def _time(data: Any) -> str | None:
    moment = _moment(data)
    return None if moment is None else f"{moment[0].isoformat()[:19]}Z"


def _micro_time(data: Any) -> str | None:
    moment = _moment(data)
    if moment is None:
        return None
    return f"{moment[0].isoformat()[:19]}.{moment[1] // 1000:06d}Z"


def _int_or_string(data: Any) -> int | str:
    parts = _numbers(data)
    if parts.get(1, 0):
        return _text(parts.get(3, b""))
    # An int32 that is negative comes with its sign extended to 64 bits.
    return _signed(parts.get(2, 0))


def _quantity(data: Any) -> str:
    return _text(_numbers(data).get(1, b"")) or "0"


def _raw_json(data: Any) -> Any:
    raw = bytes(_numbers(data).get(1, b""))
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError) as error:
        raise ProtobufError(f"an embedded value is no JSON: {error}") from error


def _words(data: Any) -> list[str]:
    return [_text(value) for number, _, value in _fields(data) if number == 1]


def _schema_or_bool(data: Any) -> Any:
    parts = _numbers(data)
    if 2 in parts:
        return _message("apiextensions.v1.JSONSchemaProps", parts[2], 0)
    return bool(parts.get(1, 0))


def _schema_or_list(data: Any) -> Any:
    schema = "apiextensions.v1.JSONSchemaProps"
    several = [_message(schema, value, 0) for number, _, value in _fields(data) if number == 2]
    return several or _message(schema, _numbers(data).get(1, b""), 0)


def _schema_or_words(data: Any) -> Any:
    parts = _numbers(data)
    if 1 in parts:
        return _message("apiextensions.v1.JSONSchemaProps", parts[1], 0)
    return [_text(value) for number, _, value in _fields(data) if number == 2]


_SPECIAL: Final = {
    "meta.v1.Time": _time,
    "meta.v1.MicroTime": _micro_time,
    "meta.v1.FieldsV1": _raw_json,
    "util.IntOrString": _int_or_string,
    "util.Quantity": _quantity,
    "util.RawExtension": _raw_json,
    "apiextensions.v1.JSON": _raw_json,
    "apiextensions.v1.JSONSchemaPropsOrBool": _schema_or_bool,
    "apiextensions.v1.JSONSchemaPropsOrArray": _schema_or_list,
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _schema_or_words,
    "authentication.v1.ExtraValue": _words,
    "authorization.v1.ExtraValue": _words,
    "certificates.v1.ExtraValue": _words,
    "meta.v1.Verbs": _words,
}
