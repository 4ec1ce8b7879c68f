"""Sets of completion indexes as the status of a Job writes them: ``1,3-5,7`` (pure).

Source: KEP-2214 (Indexed Jobs); batch/v1, ``completedIndexes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Indexes:
    """A set of numbers, kept as spans: a Job may have 100,000 of them.

    Attributes:
        spans: first and last of each, in order; between two at least one number is missing.
    """

    spans: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def __contains__(self, number: int) -> bool:
        low, high = 0, len(self.spans)
        while low < high:
            middle = (low + high) // 2
            if self.spans[middle][1] >= number:
                high = middle
            else:
                low = middle + 1
        return low < len(self.spans) and self.spans[low][0] <= number

    def __str__(self) -> str:
        return ",".join(_written(first, last) for first, last in self.spans)

    def __or__(self, other: Indexes) -> Indexes:
        return Indexes(tuple(_joined(sorted(self.spans + other.spans))))

    def common(self, other: Indexes) -> int:
        """Return how many numbers are in both."""
        mine, others = list(self.spans), list(other.spans)
        count = here = there = 0
        while here < len(mine) and there < len(others):
            first = max(mine[here][0], others[there][0])
            last = min(mine[here][1], others[there][1])
            count += max(last - first + 1, 0)
            if mine[here][1] <= others[there][1]:
                here += 1
            else:
                there += 1
        return count

    def missing(self, count: int, below: int) -> list[int]:
        """Return the ``count`` lowest numbers below ``below`` that are not in the set."""
        found: list[int] = []
        candidate = 0
        for first, last in (*self.spans, (below, below)):
            found.extend(range(candidate, min(first, below, candidate + count - len(found))))
            candidate = max(candidate, last + 1)
            if len(found) >= count or candidate >= below:
                break
        return found


NOTHING: Final = Indexes()


def of_numbers(numbers: Iterable[int]) -> Indexes:
    """Return the set of some numbers."""
    return Indexes(tuple(_joined([(one, one) for one in sorted(numbers)])))


def parsed(text: str | None, below: int) -> Indexes:
    """Return the set that a text says, without what is not below ``below``.

    What is no number is left out: someone else may have written it.
    """
    spans: list[tuple[int, int]] = []
    for part in (text or "").split(","):
        first, *rest = part.split("-")
        last = rest[0] if rest else first
        if not (first.isdecimal() and last.isdecimal()):
            continue
        if int(first) >= below:
            break
        spans.append((int(first), min(int(last), below - 1)))
    return Indexes(tuple(_joined(sorted(spans))))


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for first, last in spans:
        if last < first:
            continue
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return made


def _written(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first}{',' if last == first + 1 else '-'}{last}"
