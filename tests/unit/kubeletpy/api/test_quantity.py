from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeletpy.api.quantity import Family, Quantity, canonical


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("0", Fraction(0), "0"),
        ("1", Fraction(1), "1"),
        ("0.5", Fraction(1, 2), "500m"),
        (".5", Fraction(1, 2), "500m"),
        ("5.", Fraction(5), "5"),
        ("100m", Fraction(1, 10), "100m"),
        ("1500m", Fraction(3, 2), "1500m"),
        ("2000m", Fraction(2), "2"),
        ("1Ki", Fraction(1024), "1Ki"),
        ("1.5Gi", Fraction(3 * 2**29), "1536Mi"),
        ("1024Mi", Fraction(2**30), "1Gi"),
        ("1000Ki", Fraction(1024000), "1000Ki"),
        ("0.5Ki", Fraction(512), "512"),
        ("1k", Fraction(1000), "1k"),
        ("1000k", Fraction(10**6), "1M"),
        ("12e6", Fraction(12 * 10**6), "12e6"),
        ("1E3", Fraction(1000), "1e3"),
        ("2E", Fraction(2 * 10**18), "2E"),
        ("5e-3", Fraction(5, 1000), "5e-3"),
        ("-1.5", Fraction(-3, 2), "-1500m"),
        ("+3", Fraction(3), "3"),
        ("1n", Fraction(1, 10**9), "1n"),
        # Finer than a billionth: rounded up, away from zero.
        ("0.1n", Fraction(1, 10**9), "1n"),
        ("-0.1n", Fraction(-1, 10**9), "-1n"),
        # Capped at the largest 64 bit integer.
        ("100E", Fraction(2**63 - 1), "9223372036854775807"),
    ],
)
def test_parse(text: str, value: Fraction, shown: str) -> None:
    quantity = Quantity(text)
    assert quantity.value == value
    assert str(quantity) == shown
    assert Quantity(shown) == quantity


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1x", "ki", "1K", "1KI", "1mi", "--1", "1.2.3", "0x10", "1e", "e3", "1e3k",
     "1" * 65, "1e99999999", "\u0661", "1_000", "NaN", "inf", "."],
)  # fmt: skip
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        Quantity(text)


@pytest.mark.parametrize(
    ("text", "milli", "units"),
    [("1", 1000, 1), ("100m", 100, 1), ("1.0001", 1001, 2), ("1u", 1, 1), ("-1.5", -1500, -2)],
)
def test_units_round_away_from_zero(text: str, milli: int, units: int) -> None:
    assert Quantity(text).milli == milli
    assert int(Quantity(text)) == units


def test_order_and_arithmetic() -> None:
    assert Quantity("1Gi") > Quantity("1G")
    assert Quantity("1") == Quantity("1000m")
    assert hash(Quantity("1")) == hash(Quantity("1000m"))
    assert str(Quantity("512Mi") + Quantity("512Mi")) == "1Gi"
    assert str(Quantity("1") - Quantity("1")) == "0"
    assert not Quantity("0")
    assert Quantity("1n")


@given(
    value=st.integers(-(2**63) + 1, 2**63 - 1).map(lambda nano: Fraction(nano, 10**9)),
    family=st.sampled_from(Family),
)
def test_canonical_text_is_the_same_amount(value: Fraction, family: Family) -> None:
    assert Quantity(canonical(value, family)).value == value


@given(
    st.from_regex(
        r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|e-?[0-9])?", fullmatch=True
    )
)
def test_shown_text_is_a_fixed_point(text: str) -> None:
    shown = str(Quantity(text))
    assert str(Quantity(shown)) == shown
    assert Quantity(shown) == Quantity(text)
