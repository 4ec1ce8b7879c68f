"""Reading bodies: JSON, YAML or protobuf, within bounds."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any, Final

import msgspec
import yaml
from aiohttp import web

from controlplane.api.errors import ApiError, bad_request
from controlplane.kinds.protobuf import MEDIA, ProtobufError, decode_object
from controlplane.kinds.types import MAX_DEPTH
from controlplane.server import duplicates

MAX_BODY: Final = 3 << 20
"""Bytes of one request, as in Kubernetes."""

# Bytes that take a few milliseconds.
_MUCH_YAML: Final = 16 << 10
_JSON: Final = ("application/json", "application/merge-patch+json", "application/json-patch+json",
                "application/strategic-merge-patch+json")  # fmt: skip
_YAML: Final = ("application/yaml", "application/apply-patch+yaml")


async def read_body(request: web.Request, kinds: dict[str, str]) -> Any:
    """Return the decoded body; None if there is none.

    Args:
        request: to read from.
        kinds: names of types by ``group/version/Kind``, for bodies in protobuf.

    Raises:
        ApiError: it is too large, of an unknown type, or not well-formed.
    """
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        text = f"Request entity too large: limit is {MAX_BODY}"
        raise ApiError("RequestEntityTooLarge", text) from error
    if not content:
        return None
    kind = request.content_type
    if kind in _YAML:
        if len(content) > _MUCH_YAML:
            return await asyncio.to_thread(_from_yaml, content)
        return _from_yaml(content)
    if kind in _JSON or kind == "application/octet-stream":
        return _from_json(content)
    if kind == MEDIA:
        try:
            return decode_object(content, kinds)
        except ProtobufError as error:
            raise bad_request(f"the body is no well-formed protobuf: {error}") from error
    listed = ", ".join((*_JSON, *_YAML, MEDIA))
    raise ApiError(
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format {kind!r}: accepted are {listed}",
    )


async def read_duplicates(request: web.Request) -> list[str]:
    """Return a sentence for each key that the body, read before, has twice in one object."""
    content = await request.read()
    if request.content_type not in _YAML:
        return [] if request.content_type == MEDIA else duplicates.in_json(content)
    if len(content) > _MUCH_YAML:
        return await asyncio.to_thread(duplicates.in_yaml, content)
    return duplicates.in_yaml(content)


def _from_json(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is no well-formed JSON: {error}") from error


def _from_yaml(content: bytes) -> Any:
    if content.lstrip()[:1] in (b"{", b"["):
        # JSON is YAML, and what kubectl sends for YAML is JSON.
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return msgspec.json.decode(content)
    try:
        _check_yaml(content)
        return _as_json(yaml.load(content, Loader=yaml.CSafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        text = " ".join(str(error).split())
        raise bad_request(f"the body is no well-formed YAML: {text}") from error


def _check_yaml(content: bytes) -> None:
    """Look for what costs more than its size, before anything is built of it.

    Raises:
        ValueError: a few aliases can stand for more than memory holds, and the time to read nested
            brackets grows with the square of their depth.
        yaml.YAMLError: it is not well-formed.
    """
    depth = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not accepted")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _as_json(value: Any) -> Any:
    """Return what YAML holds in the terms of JSON.

    Raises:
        ValueError: JSON has no such value.
    """
    if isinstance(value, dict):
        if not all(isinstance(key, str | int | float | bool) for key in value):
            raise ValueError("keys of maps must be text")
        return {_key(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "isoformat"):
        # What YAML takes for a date is text to JSON.
        return value.isoformat().replace("+00:00", "Z")
    raise ValueError(f"JSON has no {type(value).__name__}")


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
