"""Metrics of pods in Prometheus' format: two scrapes of each pod, values and rates (pure).

What a pod tells is its own word: so many series are taken of it, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from .usage import TextError

MOST_OF_POD: Final = 5_000
"""Series that are taken of a pod."""
MOST: Final = 200_000
"""Series that are taken in all."""
MOST_LABELS: Final = 64
_GROWING: Final = ("counter", "histogram", "summary")
_TOTAL: Final = "_total"
_RATE: Final = "_per_second"

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs."""


@dataclass(slots=True)
class Samples:
    """What a pod told at once.

    Attributes:
        at: seconds since the epoch.
        values: by name and labels.
        growing: names of what only grows: of these the rate counts.
        left_out: series that were too many.
    """

    at: float
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    growing: set[str] = field(default_factory=set)
    left_out: int = 0

    @property
    def count(self) -> int:
        """How many series there are."""
        return sum(len(one) for one in self.values.values())


@dataclass(frozen=True, slots=True)
class Value:
    """A series of a pod now.

    Attributes:
        labels: of it.
        value: a value, or a rate a second.
        at: when it was told, seconds since the epoch.
        window: seconds of the rate; 0: it is none.
    """

    labels: Labels
    value: float
    at: float
    window: float


def read_samples(text: str, now: float, most: int = MOST_OF_POD) -> Samples:
    """Return what a text tells.

    Raises:
        TextError: it is none of metrics.
    """
    samples, count = Samples(now), 0
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_created") or not math.isfinite(sample.value):
                    continue
                if count >= most or len(sample.labels) > MOST_LABELS:
                    samples.left_out += 1
                    continue
                count += 1
                labels = tuple(sorted(sample.labels.items()))
                samples.values.setdefault(sample.name, {})[labels] = float(sample.value)
                if _grows(family.type, sample.name) and "quantile" not in sample.labels:
                    samples.growing.add(sample.name)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise TextError(f"this is no text of metrics: {error}") from error
    return samples


def _grows(kind: str, name: str) -> bool:
    """Whether a series only grows; OpenMetrics calls the family of ``x_total`` only ``x``."""
    return kind in _GROWING or (kind in ("unknown", "untyped") and name.endswith(_TOTAL))


class SeriesStore:
    """Keeps the last two scrapes of each pod, by the pod's uid."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[Samples | None, Samples]] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many series are kept."""
        return self._count

    @property
    def room(self) -> int:
        """How many more may be."""
        return max(MOST - self._count, 0)

    def take(self, uid: str, samples: Samples) -> None:
        """Take what a pod told."""
        known = self._pods.get(uid)
        before = known[1] if known is not None else None
        self._pods[uid] = (before, samples)
        self._count += samples.count - (before.count if before is not None else 0)

    def keep(self, uids: Iterable[str]) -> None:
        """Forget all pods but these."""
        for uid in set(self._pods) - set(uids):
            self.forget(uid)

    def forget(self, uid: str) -> None:
        """Forget a pod: it does not answer, or is gone."""
        found = self._pods.pop(uid, None)
        if found is not None:
            self._count -= found[1].count

    def names(self) -> set[str]:
        """Return the names of all series."""
        return {name for _, last in self._pods.values() for name in last.values}

    def values(
        self, uid: str, name: str, fits: Callable[[Mapping[str, str]], bool]
    ) -> Iterator[Value]:
        """Yield the series of a pod with a name whose labels fit.

        Of what only grows, rates are told; it may be asked for by its name, by its name without
        ``_total``, and with ``_per_second`` in the place of that.
        """
        found = self._pods.get(uid)
        if found is None:
            return
        before, last = found
        told = next((one for one in aliases(name) if one in last.values), None)
        if told is None or (told != name and told not in last.growing):
            return
        for labels, value in last.values[told].items():
            if not fits(dict(labels)):
                continue
            if told not in last.growing:
                yield Value(labels, value, last.at, 0.0)
                continue
            rate = _rate(before, last, told, labels)
            if rate is not None and before is not None:
                yield Value(labels, rate, last.at, last.at - before.at)


def _rate(before: Samples | None, last: Samples, name: str, labels: Labels) -> float | None:
    if before is None or last.at <= before.at:
        return None
    now, then = last.values[name][labels], before.values.get(name, {}).get(labels)
    if then is None:
        # Since when it grows is not known.
        return None
    grown = now - then if now >= then else now
    return grown / (last.at - before.at)


def aliases(name: str) -> tuple[str, ...]:
    """Return the names of series that are meant by the name of a metric, the best first (pure)."""
    plain = name.removesuffix(_RATE)
    return name, f"{plain}{_TOTAL}", plain
