"""Plain data, as JSON has it."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


def copied(value: _T) -> _T:
    """Return a copy of maps and lists, however deep; all else is shared, as it cannot change.

    A third of the time of ``copy.deepcopy``, which looks for what is there twice: here it is made
    twice.
    """
    if isinstance(value, dict):
        return {  # type: ignore[return-value]
            key: copied(one) if isinstance(one, dict | list) else one for key, one in value.items()
        }
    if isinstance(value, list):
        return [copied(one) if isinstance(one, dict | list) else one for one in value]  # type: ignore[return-value]
    return value
