"""Limits of the buckets of histograms, as Go's metrics have them."""

from __future__ import annotations

from typing import Final

DEFAULT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STARTS: Final = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200,
    1800, 2700, 3600,
)  # fmt: skip
OPERATIONS: Final = tuple(0.005 * 2.5**n for n in range(14))
