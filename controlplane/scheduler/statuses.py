"""Why a pod does not fit (pure): for each node, and in one sentence for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Status:
    """Why a node does not do.

    Attributes:
        plugin: that says so.
        reasons: for people.
        resolvable: whether other pods' going may change it.
    """

    plugin: str
    reasons: tuple[str, ...]
    resolvable: bool = False


@dataclass(slots=True)
class Diagnosis:
    """Why a pod fits on no node.

    Attributes:
        nodes: how many there are.
        statuses: of those that were looked at, by name.
        absent: of all others; None: nothing is said of them.
        before: what spoke against all nodes at once.
        after: what preemption says.
        plugins: that spoke against it: events that matter to them make it worth another attempt.
    """

    nodes: int
    statuses: dict[str, Status] = field(default_factory=dict)
    absent: Status | None = None
    before: str = ""
    after: str = ""
    plugins: set[str] = field(default_factory=set)

    def status_of(self, node: str) -> Status | None:
        """Return why a node does not do."""
        return self.statuses.get(node, self.absent)

    @property
    def message(self) -> str:
        """In one sentence."""
        text = f"0/{self.nodes} nodes are available:"
        if self.before:
            text += f" {self.before}."
        else:
            counts: Counter[str] = Counter()
            for status in self.statuses.values():
                counts.update(status.reasons)
            left = self.nodes - len(self.statuses)
            if left > 0 and self.absent is not None:
                counts.update(dict.fromkeys(self.absent.reasons, left))
            if counts:
                text += f" {histogram(counts)}."
        return f"{text} {self.after}" if self.after else text


def histogram(counts: Mapping[str, int]) -> str:
    """Return ``2 too small, 3 too far``: sorted as texts, as the Go peer does."""
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


def together(plugins: Iterable[str]) -> str:
    """Return what is said of nodes that plugins ruled out at once."""
    return f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(plugins))}]"


class SchedulingError(Exception):
    """An attempt failed for another reason than that the pod does not fit; it comes again."""
