"""Quantities: fixed-point numbers with a suffix, such as 500m or 1Gi (pure).

Source: Kubernetes, apimachinery, resource.Quantity: the grammar and the canonical form (no digit is
lost, the exponent is as large as possible, and a value keeps the family of its suffix; numbers
beyond 2^63-1 are capped unless few digits write them, fractions finer than a nano are rounded up).
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15,
                   "E": 18}  # fmt: skip
_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_GRAMMAR: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", re.ASCII
)
_MAX: Final = Decimal((1 << 63) - 1)
_MAX_LENGTH: Final = 128
_FEW_DIGITS: Final = 18
_CONTEXT: Final = Context(prec=200, Emax=10**6, Emin=-(10**6))


class QuantityError(ValueError):
    """The text is no quantity."""


def parse(text: str) -> Decimal:
    """Return the number that a quantity stands for.

    Raises:
        QuantityError: it is none.
    """
    return _parse(text)[0]


def canonical(text: str) -> str:
    """Return the one way in which a server writes this quantity.

    Raises:
        QuantityError: it is none.
    """
    number, suffix = _parse(text)
    if suffix in _BINARY and (abs(number) >= 1024 or number == 0) and number == int(number):
        return _binary(int(number))
    if suffix in _BINARY and number == int(number):
        return str(int(number))
    powers = suffix[:1] in ("e", "E") and suffix != "E"
    digits, exponent = _reduce(number, max(18, number.adjusted() // 3 * 3) if powers else 18)
    if powers:
        return f"{digits}e{exponent}" if exponent else str(digits)
    return f"{digits}{_SUFFIX[exponent]}"


# A few texts make up most of a cluster's quantities.
@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Decimal, str]:
    found = _GRAMMAR.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise QuantityError(
            f"{shown!r} is no quantity: write a number and a suffix, such as 100m, 2, 1.5G or 64Mi"
        )
    suffix = found[2] or ""
    try:
        number = _CONTEXT.create_decimal(found[1])
        if suffix in _BINARY:
            number = _CONTEXT.multiply(number, Decimal(1 << _BINARY[suffix]))
        else:
            exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
            number = _CONTEXT.scaleb(number, max(-10_000, min(exponent, 10_000)))
    except InvalidOperation as error:
        raise QuantityError(f"{text!r} is no quantity: {error}") from error
    if abs(number) > _MAX and (suffix in _BINARY or len(number.as_tuple().digits) > _FEW_DIGITS):
        return _MAX.copy_sign(number), "" if suffix not in _BINARY else suffix
    if number.as_tuple().exponent >= -9:  # type: ignore[operator]  # it is finite
        return number, suffix
    return number.quantize(Decimal("1e-9"), rounding=ROUND_UP, context=_CONTEXT), suffix


def _binary(number: int) -> str:
    exponent, suffix = 0, ""
    for name, bits in _BINARY.items():
        if number and number % (1 << bits) == 0:
            exponent, suffix = bits, name
    return f"{number >> exponent}{suffix}"


def _reduce(number: Decimal, most: int) -> tuple[int, int]:
    """Return digits and an exponent, the largest multiple of three up to ``most`` without loss."""
    if number == 0:
        return 0, 0
    for exponent in range(most, -10, -3):
        scaled = _CONTEXT.scaleb(number, -exponent)
        if scaled == int(scaled):
            return int(scaled), exponent
    raise AssertionError("a quantity is at least a nano fine")
