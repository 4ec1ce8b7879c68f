"""When a pod comes to the node: every provider gives its containers what they ask for, or it fails.

In the scope ``container`` each container is aligned by itself, in ``pod`` all of them together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Protocol

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod

from .errors import AdmissionError, AllocationError
from .hints import NONE, POD, Hint, ResourceHints, TopologyPolicy


class Provider(Protocol):
    """Who has something to give: CPUs, memory, devices.

    All but ``allocate`` are quick and do not wait.

    Attributes:
        restores: whether what it gives can be found anew for a pod that runs.
    """

    restores: bool

    def hints(self, pod: Pod, container: Container) -> ResourceHints:
        """Return which NUMA nodes could serve a container."""

    def pod_hints(self, pod: Pod) -> ResourceHints:
        """Return which NUMA nodes could serve a whole pod."""

    async def allocate(self, pod: Pod, container: Container, hint: Hint) -> None:
        """Give a container what it asks for; again does nothing.

        Raises:
            AllocationError: it cannot be had.
        """

    def holds(self, uid: str) -> bool:
        """Whether a pod has something."""

    def settle(self, pod: Pod) -> None:
        """All containers of a pod have been served, or one could not be."""

    def release(self, uid: str) -> None:
        """Take back what a pod has; nothing is fine."""


class TopologyManager:
    """Asks the providers, in their order.

    Args:
        policy: how hints are merged.
        scope: ``container`` or ``pod``.
    """

    def __init__(self, policy: TopologyPolicy, scope: str) -> None:
        self.providers: list[Provider] = []
        self._policy = policy
        self._scope = scope
        # Aligned pods one after the other: what a hint promised must still be there afterwards.
        self._alone = asyncio.Lock()

    async def admit(self, pod: Pod) -> AdmissionError | None:
        """Give a pod what it asks for; for one that has it already this does nothing.

        Returns:
            Why it cannot be had; then nothing new is kept for the pod.
        """
        uid = pod.metadata.uid
        before = [provider for provider in self.providers if provider.holds(uid)]
        refusal: AdmissionError | None = None
        try:
            async with self._alignment():
                await self._allocate(pod)
        except AllocationError as error:
            refusal = error.as_admission_error()
        except AdmissionError as error:
            refusal = error
        finally:
            for provider in self.providers:
                provider.settle(pod)
        if refusal is not None:
            # What it had before may be in use by containers that run.
            for provider in self.providers:
                if provider not in before:
                    provider.release(uid)
        return refusal

    def release(self, uid: str) -> None:
        """Take back what a pod has, which has ended for good."""
        for provider in self.providers:
            provider.release(uid)

    @contextlib.asynccontextmanager
    async def _alignment(self) -> AsyncIterator[None]:
        if self._policy.name == NONE:
            yield
        else:
            async with self._alone:
                yield

    async def _allocate(self, pod: Pod) -> None:
        together: Hint | None = None
        if self._scope == POD and self._policy.name != NONE:
            together = self._merge(provider.pod_hints(pod) for provider in self.providers)
        for container in chain(pod.spec.init_containers, pod.spec.containers):
            hint = together
            if hint is None and self._policy.name == NONE:
                hint = Hint(None, False)
            if hint is None:
                hint = self._merge(one.hints(pod, container) for one in self.providers)
            for provider in self.providers:
                await provider.allocate(pod, container, hint)

    def _merge(self, provided: Iterator[ResourceHints]) -> Hint:
        hint, admitted = self._policy.merge(provided)
        if not admitted:
            raise AdmissionError(
                "TopologyAffinityError", "Resources cannot be allocated with Topology locality"
            )
        return hint
