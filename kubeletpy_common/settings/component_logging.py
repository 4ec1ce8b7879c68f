"""LoggingConfiguration of component-base: the field ``logging`` of all components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
DEBUG_VERBOSITY = 4
"""From this verbosity of Go's on, our logs are of level debug."""


class _Struct(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base: snake_case here, camelCase in files, what does not exist is refused."""


class OutputOptions(_Struct):
    """Buffers and streams of one format of the log."""

    split_stream: bool = False
    info_buffer_size: str | int = "0"


class FormatOptions(_Struct):
    """Options of the formats of the log."""

    text: OutputOptions = msgspec.field(default_factory=OutputOptions)
    json: OutputOptions = msgspec.field(default_factory=OutputOptions)


class VModule(_Struct):
    """Verbosity of files of the Go kubelet's source."""

    file_pattern: str = ""
    verbosity: _Int64 = 0


class Logging(_Struct):
    """The log; a number for ``flushFrequency`` means nanoseconds."""

    format: str = "text"
    flush_frequency: str | int = "5s"
    verbosity: _Int64 = 0
    vmodule: list[VModule] = []
    options: FormatOptions = msgspec.field(default_factory=FormatOptions)


def problems(one: Logging) -> Iterator[str]:
    """Yield what is wrong with the field."""
    if one.format not in ("text", "json"):
        yield f"logging.format: {one.format!r} must be text or json"
    if one.vmodule and one.format != "text":
        yield "logging.vmodule: only supported for text log format"
    if not 0 <= one.verbosity < 2**31:
        yield f"logging.verbosity: {one.verbosity} must be between 0 and {2**31 - 1}"


def level_of(verbosity: int) -> str:
    """Return the level of our logs for a verbosity of Go's."""
    return "debug" if verbosity >= DEBUG_VERBOSITY else "info"
