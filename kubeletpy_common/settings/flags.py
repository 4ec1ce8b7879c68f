"""Flags of a daemon as texts, and the values of fields that they stand for (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import values
from .durations import ConfigurationError, duration

BOOL, INT, TEXT, DURATION, LIST, MAP, ONE_PAIR, LESS = (
    "bool", "int", "text", "duration", "list", "map", "pair", "less",
)  # fmt: skip
HEADERS, TAINTS, MEMORY, GATES = "headers", "taints", "memory", "gates"
MANY = frozenset({LIST, MAP, ONE_PAIR, LESS, HEADERS, TAINTS, MEMORY, GATES})
"""Kinds of which a flag may be given several times, all of them counting."""

_WORDS = {
    "1": True, "t": True, "true": True, "0": False, "f": False, "false": False,
}  # fmt: skip


def text_of(_: str, value: str) -> str:
    """Return the text of a flag as it is."""
    return value


def bool_of(flag: str, value: str) -> bool:
    """Return what the text of a flag means, as Go reads it: ``t``, ``1``, ``FALSE`` ...

    Raises:
        ConfigurationError: neither.
    """
    try:
        return _WORDS[value.lower()]
    except KeyError:
        raise ConfigurationError(f"--{flag}: {value!r} is neither true nor false") from None


def int_of(flag: str, value: str) -> int:
    """Return the number that the text of a flag is.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return int(value, 10)
    except ValueError:
        raise ConfigurationError(f"--{flag}: {value!r} is no number") from None


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return a document in which the field at ``a.b.c`` has a value."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def value_of(flag: str, kind: str, value: Any) -> Any:
    """Return the value of a field from the text, or tuple of texts, of a flag.

    Raises:
        ConfigurationError: it is none of this kind.
    """
    name = f"--{flag}"
    simple: dict[str, Callable[[str, Any], Any]] = {
        BOOL: bool_of, INT: int_of, TEXT: text_of,
        DURATION: lambda _, text: str(duration(text, name)),
        LIST: lambda _, texts: values.split(texts),
        MAP: lambda _, texts: values.pairs(texts, name),
        LESS: lambda _, texts: values.pairs(texts, name, "<"),
        HEADERS: lambda _, texts: values.headers(texts, name),
        TAINTS: lambda _, texts: values.taints(texts, name),
        MEMORY: lambda _, texts: values.reserved_memory(texts, name),
        GATES: lambda _, texts: {
            gate: bool_of(flag, text) for gate, text in values.pairs(texts, name).items()
        },
        ONE_PAIR: lambda _, texts: {
            key: text
            for one in texts
            for key, text in [_pair(name, one)]
        },
    }  # fmt: skip
    return simple[kind](flag, value)


def _pair(name: str, text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigurationError(f"{name}: {text!r} is not KEY=VALUE")
    return key.strip(), value
