"""What every network of pods can do: the built-in one, and that of CNI plugins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtime.network.config import Attachment
from runtime.network.request import NOTHING_SPECIAL, PodFacts


@dataclass(frozen=True)
class Reconciled:
    """What :meth:`PodNetwork.reconcile` found.

    Attributes:
        released: sandboxes whose addresses were freed, since nobody knows them, or since their
            attachment was never finished.
        lost: known sandboxes that were attached but whose link is gone, for instance by a
            reboot. Their addresses were freed too.
        links: host ends of links that were removed.
    """

    released: frozenset[str]
    lost: frozenset[str]
    links: frozenset[str]


class PodNetwork(Protocol):
    """Gives sandboxes their network; calls for one sandbox are done one after the other."""

    async def attach(
        self, sandbox_id: str, netns: Path, facts: PodFacts = NOTHING_SPECIAL
    ) -> Attachment:
        """Give the sandbox its network, or leave nothing of it; a second call changes nothing.

        Args:
            sandbox_id: whose network it is.
            netns: where its network namespace is pinned.
            facts: who it is, and what it asks for.

        Raises:
            NetworkError: it cannot be attached.
        """
        ...

    async def detach(self, sandbox_id: str, netns: Path | None) -> None:
        """Take the sandbox off the network; what of it is gone already is fine.

        Raises:
            NetworkError: something is left; the call can be repeated.
        """
        ...

    def lookup(self, sandbox_id: str) -> Attachment | None:
        """Return how the sandbox is attached, or None if it is not."""
        ...

    async def reconcile(self, known_ids: set[str]) -> Reconciled:
        """Remove what no known sandbox owns: to be called after a start of the daemon.

        Raises:
            NetworkError: it cannot be found out, or not be made right.
        """
        ...

    async def readiness(self) -> str:
        """Return why no pod can be attached now, or "" if one can."""
        ...

    def use_pod_cidrs(self, cidrs: Sequence[str]) -> None:
        """Take over the pods' networks that the client of the runtime was given for this node."""
        ...

    async def close(self) -> None:
        """Let work under way end, and let go of everything; pods stay attached.

        Raises:
            NetworkError: something could not be ended.
        """
        ...
