"""What parts count of their work, under the names that the Go peers have.

Counting is a few additions and needs no library; what is counted becomes metrics only when somebody
asks for them.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def exponential(first: float, factor: float, count: int) -> tuple[float, ...]:
    """Return bounds of buckets that grow by a factor (pure)."""
    return tuple(first * factor**power for power in range(count))


class Measure(Protocol):
    """Something that is counted."""

    def metric(self) -> Metric:
        """Return it as it is now."""
        ...


class Level:
    """A gauge that is read when somebody asks.

    Args:
        name, about, labels: as of a `Tally`.
        read: returns values by those of the labels.
    """

    def __init__(
        self,
        name: str,
        about: str,
        read: Callable[[], Mapping[tuple[str, ...], float]],
        *labels: str,
    ) -> None:
        self._name = name
        self._about = about
        self._read = read
        self._labels = labels

    def metric(self) -> Metric:
        """See `Measure`."""
        from prometheus_client.core import GaugeMetricFamily

        made = GaugeMetricFamily(self._name, self._about, labels=self._labels)
        for values, value in self._read().items():
            made.add_metric(values, value)
        return made


class Tally:
    """A counter.

    Args:
        name: of the metric, without ``_total``.
        about: what is counted, in a sentence.
        labels: names of its labels.
    """

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add(self, *values: str, count: int = 1) -> None:
        """Count something; ``values`` are those of the labels."""
        if count:
            self._counts[values] += count

    def metric(self) -> Metric:
        """See `Measure`."""
        from prometheus_client.core import CounterMetricFamily

        made = CounterMetricFamily(self._name, self._about, labels=self._labels)
        if not self._labels:
            made.add_metric([], self._counts[()])
        for values, count in self._counts.items():
            if self._labels:
                made.add_metric(values, count)
        return made


class Spread:
    """A histogram, of durations in seconds as a rule.

    Args:
        name, about, labels: as of a `Tally`.
        bounds: of the buckets, upwards.
    """

    def __init__(self, name: str, about: str, bounds: Sequence[float], *labels: str) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self._bounds = bounds
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        if not labels:
            self._buckets[()] = self._empty()

    def add(self, value: float, *values: str) -> None:
        """Count a value; ``values`` are those of the labels."""
        buckets = self._buckets.get(values)
        if buckets is None:
            buckets = self._buckets[values] = self._empty()
        buckets[bisect.bisect_left(self._bounds, value)] += 1
        self._sums[values] += value

    def metric(self) -> Metric:
        """See `Measure`."""
        return spreads([self])

    def _empty(self) -> list[int]:
        return [0] * (len(self._bounds) + 1)

    def samples(self) -> list[tuple[tuple[str, ...], list[tuple[str, float]], float]]:
        """Return, for each set of labels, the buckets as they are told, and the sum."""
        found = []
        for values, counts in self._buckets.items():
            total, told = 0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                total += count
                told.append((bound, float(total)))
            found.append((values, told, self._sums[values]))
        return found

    @property
    def head(self) -> tuple[str, str, tuple[str, ...]]:
        """Name, description and names of labels."""
        return self._name, self._about, self._labels


def spreads(parts: Sequence[Spread]) -> Metric:
    """Return several histograms of one name and different values of labels as one metric."""
    from prometheus_client.core import HistogramMetricFamily

    name, about, labels = parts[0].head
    made = HistogramMetricFamily(name, about, labels=labels)
    for part in parts:
        for values, buckets, total in part.samples():
            made.add_metric(values, buckets, total)
    return made
