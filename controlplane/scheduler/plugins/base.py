"""What a plugin of the scheduler is: it prepares a check of nodes for one pod, or scores nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from ..cluster import Cluster
from ..events import Hints
from ..nodes import NodeInfo
from ..pods import PodInfo
from ..statuses import Status

MOST: Final = 100
"""The best score of a node."""


class Attempt:
    """One attempt to place a pod.

    Attributes:
        pod: that is placed.
        cluster: in which.
        kept: what a plugin keeps from one step to the next, by its name.
    """

    __slots__ = ("cluster", "kept", "pod")

    def __init__(self, pod: PodInfo, cluster: Cluster) -> None:
        self.pod = pod
        self.cluster = cluster
        self.kept: dict[str, Any] = {}


class Check:
    """What a plugin asks of each node for one pod.

    Attributes:
        only: the only nodes that can fit, by name; None: any can.
    """

    only: frozenset[str] | None = None

    def at(self, node: NodeInfo) -> Status | None:
        """Return why a node does not do; None: it does."""
        raise NotImplementedError

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is on a node, too."""

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is not on a node."""


class Plugin:
    """A plugin; its name is that of the Go peer.

    Attributes:
        hints: which events may make a pod fit that it spoke against.
    """

    name: ClassVar[str]
    hints: ClassVar[Hints] = ()

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Return the check of nodes for a pod.

        Returns:
            None: all nodes do; a status: no node does.

        Raises:
            SchedulingError: it cannot be told now.
        """
        return None

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Return how well each node does, from 0 to `MOST`; None: all the same."""
        return None


def normalized(scores: list[int], *, reverse: bool = False) -> list[int]:
    """Return scores stretched so that the highest is `MOST`; reversed: the lowest is the best."""
    highest = max(scores, default=0)
    if highest == 0:
        return [MOST] * len(scores) if reverse else scores
    stretched = [MOST * score // highest for score in scores]
    return [MOST - score for score in stretched] if reverse else stretched
