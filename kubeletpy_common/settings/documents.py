"""Configuration files of components: read, merged, turned into structs and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kubeletpy_common.documents import DocumentError, parse

from .durations import ConfigurationError, Duration, duration

_LARGEST = 4 * 1024 * 1024
_T = TypeVar("_T")


def read_document(flag: str, path: Path, kind: str, version: str) -> dict[str, Any]:
    """Return the fields in a file, kind and apiVersion checked and taken off.

    Args:
        flag: that names the file, for messages.
        kind, version: what it must be.

    Raises:
        ConfigurationError: it cannot be read, or is something else.
    """
    try:
        with open(path, "rb") as file:
            return fields_of(parse(file.read(_LARGEST)), kind, version)
    except OSError as error:
        raise ConfigurationError(f"{flag} {path}: {error.strerror}") from None
    except (DocumentError, ConfigurationError) as error:
        raise ConfigurationError(f"{flag} {path}: {error}") from None


def fields_of(document: object, kind: str, version: str) -> dict[str, Any]:
    """Return the fields of a document, kind and apiVersion checked and taken off.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(document, dict):
        raise ConfigurationError("not an object")
    fields = dict(document)
    if fields.pop("kind", None) != kind or fields.pop("apiVersion", None) != version:
        raise ConfigurationError(f"kind and apiVersion must be {kind} of {version}")
    return fields


def merge(target: Any, patch: Any) -> Any:
    """Return ``target`` changed by a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def without_nulls(value: Any) -> Any:
    """Return a document in which what is null is not there: Go takes both as the same."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def decode_as(document: object, type_: type[_T], kind: str) -> _T:
    """Return the struct of a document; durations are as Go writes them.

    Args:
        kind: name of the whole, for messages.

    Raises:
        ConfigurationError: a field does not exist, or is of another type.
    """
    try:
        return msgspec.convert(document, type_, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_plain(str(error), kind)) from None


def encode_plain(one: msgspec.Struct) -> dict[str, Any]:
    """Return the document of a struct, as /configz shows it (kind and version left out)."""
    document: dict[str, Any] = without_nulls(msgspec.to_builtins(one, enc_hook=str))
    return document


def _decode(kind: type, value: object) -> object:
    if kind is Duration:
        try:
            return duration(value)
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("duration: ")) from None
    raise NotImplementedError(kind)


def _plain(message: str, kind: str) -> str:
    """Return the decoder's message with the path of the field in front."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if text.startswith("Object contains unknown field `"):
        name = text.split("`")[1]
        return f"no such field of {path or kind}: {name}"
    return f"{path}: {text}" if path else text
