"""Exact amounts of resources: ``100m``, ``1.5Gi``, ``2e3`` (apimachinery: resource.Quantity)."""

from __future__ import annotations

import enum
import re
from fractions import Fraction
from functools import total_ordering
from math import ceil

_PATTERN = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_MULTIPLIERS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}
_DECIMAL_SUFFIXES = {
    -9: "n",
    -6: "u",
    -3: "m",
    0: "",
    3: "k",
    6: "M",
    9: "G",
    12: "T",
    15: "P",
    18: "E",
}
_NANO = Fraction(1, 10**9)
_MAXIMUM = 2**63 - 1
_SMALLEST_BINARY = 1024
_LONGEST = 64
_LARGEST_EXPONENT = 1000


class Family(enum.Enum):
    """The family of suffixes of a quantity."""

    DECIMAL = "DecimalSI"
    BINARY = "BinarySI"
    EXPONENT = "DecimalExponent"


@total_ordering
class Quantity:
    """An amount of a resource: exact, immutable, ordered, hashable.

    ``str()`` gives Kubernetes' canonical text in the family of suffixes that it was written in:
    ``0.5`` becomes ``500m``, ``1024Mi`` becomes ``1Gi``, ``1000e3`` becomes ``1e6``. As in
    Kubernetes, what is finer than a billionth is rounded up, and amounts are capped at 2**63-1.

    Raises:
        ValueError: the text is no quantity.
    """

    __slots__ = ("_family", "value")

    value: Fraction

    def __init__(self, amount: str | int | Fraction, family: Family = Family.DECIMAL) -> None:
        if isinstance(amount, str):
            amount, family = _parse(amount)
        self.value = _bounded(Fraction(amount))
        self._family = family

    @property
    def milli(self) -> int:
        """Thousandths, rounded up: milli-CPUs for a CPU quantity."""
        return _ceil_away(self.value * 1000)

    def __int__(self) -> int:
        """Return units, rounded up (away from zero): bytes for a memory quantity."""
        return _ceil_away(self.value)

    def __str__(self) -> str:
        return canonical(self.value, self._family)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.value == other.value

    def __lt__(self, other: Quantity) -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return self.value != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.value + other.value, self._family)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.value - other.value, self._family)


def _parse(text: str) -> tuple[Fraction, Family]:
    match = _PATTERN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(
            f"quantity {text[:_LONGEST]!r} must be a number with an optional suffix "
            "n u m k M G T P E Ki Mi Gi Ti Pi Ei or an exponent like e3"
        )
    number, suffix, exponent = match["number"], match["suffix"] or "", match["exponent"]
    value = Fraction(number.rstrip("."))
    if exponent is None:
        family = Family.BINARY if suffix.endswith("i") else Family.DECIMAL
        return value * _MULTIPLIERS.get(suffix, 1), family
    if abs(int(exponent)) > _LARGEST_EXPONENT:
        raise ValueError(f"quantity {text!r}: exponent beyond {_LARGEST_EXPONENT}")
    return value * Fraction(10) ** int(exponent), Family.EXPONENT


def _ceil_away(value: Fraction) -> int:
    """Round away from zero, as Quantity.ScaledValue does."""
    return ceil(value) if value >= 0 else -ceil(-value)


def _bounded(value: Fraction) -> Fraction:
    if value.denominator != 1:
        value = _ceil_away(value / _NANO) * _NANO
    return max(min(value, Fraction(_MAXIMUM)), Fraction(-_MAXIMUM))


def canonical(value: Fraction, family: Family = Family.DECIMAL) -> str:
    """Return the canonical text: no fraction, the largest suffix of ``family`` that allows it.

    Raises:
        ValueError: ``value`` is finer than a billionth.
    """
    if value == 0:
        return "0"
    if family is Family.BINARY and value.denominator == 1 and abs(value) >= _SMALLEST_BINARY:
        for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
            if (scaled := value / _MULTIPLIERS[suffix]).denominator == 1:
                return f"{scaled.numerator}{suffix}"
        return str(value.numerator)
    for exponent in range(18, -10, -3):
        if (scaled := value / Fraction(10) ** exponent).denominator == 1:
            if family is Family.EXPONENT:
                return f"{scaled.numerator}e{exponent}" if exponent else str(scaled.numerator)
            return f"{scaled.numerator}{_DECIMAL_SUFFIXES[exponent]}"
    raise ValueError(f"quantity {value} is finer than a billionth")
