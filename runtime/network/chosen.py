"""The network that pods get: by CNI plugins where they are configured, else the built-in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.network.bridge import BridgeNetwork
from runtime.network.cni.network import CniNetwork
from runtime.network.config import Attachment
from runtime.network.errors import NetworkError
from runtime.network.pod_network import Reconciled
from runtime.network.request import NOTHING_SPECIAL, PodFacts


class ChosenNetwork:
    """A :class:`~runtime.network.pod_network.PodNetwork` of two.

    The choice is made for each pod that comes: a configuration may be put there, or taken away,
    at any time. A pod leaves by the network it came by.
    """

    def __init__(self, bridge: BridgeNetwork, cni: CniNetwork) -> None:
        self._bridge = bridge
        self._cni = cni

    async def attach(
        self, sandbox_id: str, netns: Path, facts: PodFacts = NOTHING_SPECIAL
    ) -> Attachment:
        """Attach a sandbox; see :class:`PodNetwork`.

        Raises:
            NetworkError: it cannot be attached, or the CNI configuration cannot be used.
        """
        present = self.lookup(sandbox_id)
        if present is not None:
            return present
        if self._cni.configured():
            return await self._cni.attach(sandbox_id, netns, facts)
        return await self._bridge.attach(sandbox_id, netns, facts)

    async def detach(self, sandbox_id: str, netns: Path | None) -> None:
        """Take a sandbox off the network that it is on; see :class:`PodNetwork`."""
        await self._cni.detach(sandbox_id, netns)
        await self._bridge.detach(sandbox_id, netns)

    def lookup(self, sandbox_id: str) -> Attachment | None:
        """Return how the sandbox is attached, or None if it is not."""
        return self._cni.lookup(sandbox_id) or self._bridge.lookup(sandbox_id)

    async def reconcile(self, known_ids: set[str]) -> Reconciled:
        """Remove what no known sandbox owns, of both networks; see :class:`PodNetwork`."""
        one = await self._cni.reconcile(known_ids)
        two = await self._bridge.reconcile(known_ids)
        return Reconciled(one.released | two.released, one.lost | two.lost, one.links | two.links)

    async def readiness(self) -> str:
        """Return why no pod can be attached now, or "" if one can."""
        try:
            configured = self._cni.configured()
        except NetworkError as error:
            return str(error)
        if configured:
            return await self._cni.readiness()
        return await self._bridge.readiness()

    def use_pod_cidrs(self, cidrs: Sequence[str]) -> None:
        """Take over the pods' networks of this node; see :class:`PodNetwork`.

        Raises:
            ValueError: one is no network.
        """
        self._cni.use_pod_cidrs(cidrs)
        self._bridge.use_pod_cidrs(cidrs)

    async def close(self) -> None:
        """Close both networks.

        Raises:
            NetworkError: something could not be ended or removed.
        """
        try:
            await self._cni.close()
        finally:
            await self._bridge.close()
