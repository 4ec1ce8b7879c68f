"""``WWW-Authenticate``: what a registry asks for (RFC 9110, 11.6.1; distribution's token.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_MAX_HEADER: Final = 8192
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:[ \t]+|$|(?=,))", re.ASCII)
_PARAMETER = re.compile(
    rf'[\s,]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.ASCII
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))", re.ASCII)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Challenge:
    """One challenge: its scheme in lower case and its parameters, keys in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Sequence[str]) -> list[Challenge]:
    """Return the challenges of all ``WWW-Authenticate`` headers, in order.

    What cannot be parsed ends the header it stands in; what came before it is kept.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _MAX_HEADER:
            found += _parse(header)
    return found


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            key, quoted, plain = parameter.groups()
            value = plain if quoted is None else _ESCAPE.sub(r"\1", quoted)
            parameters.setdefault(key.lower(), value)
            position = parameter.end()
        if not parameters and (token := _TOKEN68.match(header, position)):
            position = token.end()
        found.append(Challenge(match[1].lower(), parameters))
    return found
