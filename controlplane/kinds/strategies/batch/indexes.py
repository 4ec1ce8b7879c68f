"""Indexes of Indexed Jobs, written as ``1,3-5,7`` (pure)."""

from __future__ import annotations

import re


class IndexesError(ValueError):
    """The text is no list of indexes."""


def parse_indexes(text: str, completions: int) -> list[range]:
    """Return the intervals of a list of indexes.

    Args:
        text: numbers and intervals, ascending; "" for none.
        completions: how many indexes there are.

    Raises:
        IndexesError: it is no such list, or has an index that there is not.
    """
    found: list[range] = []
    for part in text.split(",") if text else ():
        numbers = part.split("-")
        if len(numbers) > 2 or not all(re.fullmatch("[0-9]{1,10}", n, re.ASCII) for n in numbers):
            raise IndexesError(f"{part!r} is no index and no interval")
        first, last = int(numbers[0]), int(numbers[-1])
        if max(first, last) >= completions:
            raise IndexesError(f"too large index: {part!r}")
        if (len(numbers) > 1 and first >= last) or (found and found[-1].stop > first):
            raise IndexesError(f"non-increasing order at {part!r}")
        found.append(range(first, last + 1))
    return found


def overlap(some: list[range], others: list[range]) -> int | None:
    """Return an index that is in both lists; None: there is none."""
    for one in some:
        for other in others:
            if one.start < other.stop and other.start < one.stop:
                return max(one.start, other.start)
    return None
