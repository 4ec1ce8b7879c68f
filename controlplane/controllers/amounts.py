"""Numbers that may be percentages, as ``maxUnavailable`` (pure)."""

from __future__ import annotations


def scaled(value: int | str | None, total: int, *, up: bool) -> int:
    """Return the number that an IntOrString means.

    Args:
        value: a number, or a percentage of ``total`` as ``25%``; None is 0.
        total: number that a percentage is of.
        up: whether a percentage is rounded up, else down.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    digits = value.removesuffix("%")
    if digits == value or not digits.isdecimal():
        raise ValueError(f"{value!r} is neither a number nor a percentage")
    product = int(digits) * total
    return -(-product // 100) if up else product // 100
