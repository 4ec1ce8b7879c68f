from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kinds.quantity import QuantityError, canonical, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"), ("1", "1"), ("0.5", "500m"), ("100m", "100m"), ("1000m", "1"), ("1024", "1024"),
        ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1Ki", "1Ki"), ("512", "512"), ("1000", "1k"),
        ("1500", "1500"), ("2000000", "2M"), ("1e3", "1e3"), ("12E", "12E"), ("1E2", "100"),
        ("0.1n", "1n"), ("-1.5", "-1500m"), ("+3", "3"), (".5", "500m"), ("5.", "5"),
        ("0.5Ki", "512"), ("0.1Mi", "104857600m"), ("0Mi", "0"), ("9e18", "9e18"),
        ("16Ei", "9223372036854775807"), ("1e300", "1e300"), ("1.5e301", "15e300"),
    ],
)  # fmt: skip
def test_the_canonical_form(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1KI", "1.2.3", "0x10", "1e", "NaN", "9" * 200])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError, match="is no quantity"):
        canonical(text)


@given(st.decimals(-(10**12), 10**12, places=6), st.sampled_from(["", "m", "k", "Ki", "Mi", "e3"]))
def test_the_canonical_form_has_the_same_value_and_is_its_own(number: Decimal, end: str) -> None:
    text = f"{number:f}{end}"
    assert parse(canonical(text)) == parse(text)
    assert canonical(canonical(text)) == canonical(text)
