"""Whether the container runtime is well, noticed at once.

A runtime that dies closes its socket, which the channel tells without being asked. One that hangs
is not told from a slow one for half a minute, as in the Go kubelet: a node with much to do must
not lose its pods. What it says of itself (its network, its handlers) is asked for every few
seconds, because CRI cannot tell it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from kubeletpy.cri.client import CriClient, CriError
from kubeletpy_proto import cri_pb2

ASK_EVERY, ASK_BROKEN_EVERY = 5.0, 0.25
"""Seconds between questions: to a runtime that is well, and to one that is not."""
ANSWER_TIMEOUT = 10.0
SLOW = 30.0
"""Seconds without an answer after which the runtime counts as down."""

NOT_CHECKED = "container runtime status check may not have completed yet"
DOWN = "container runtime is down"


@dataclass(frozen=True, kw_only=True)
class RuntimeState:
    """What is known of the runtime.

    Attributes:
        faults: why the node cannot be ready.
        version: as ``containerd://2.4.0``.
        handlers: as in NodeStatus.runtimeHandlers.
        supplemental_groups_policy: whether it knows supplementalGroupsPolicy; None: not said.
        host_network_user_namespaces: whether pods may have the host's network and a user namespace.
    """

    faults: tuple[str, ...] = (NOT_CHECKED,)
    version: str = "Unknown://Unknown"
    handlers: tuple[tuple[str, bool, bool], ...] = ()
    supplemental_groups_policy: bool | None = None
    host_network_user_namespaces: bool = False

    def handler_status(self) -> list[dict[str, Any]]:
        """Return NodeStatus.runtimeHandlers."""
        return [
            {"name": name, "features": {
                "recursiveReadOnlyMounts": recursive, "userNamespaces": user_namespaces}}
            for name, recursive, user_namespaces in self.handlers
        ]  # fmt: skip


def state_of(answer: cri_pb2.StatusResponse, version: str) -> RuntimeState:
    """Return what a runtime says of itself (pure)."""
    faults = []
    conditions = {one.type: one for one in answer.status.conditions}
    for kind, text in (("RuntimeReady", "container runtime not ready"),
                       ("NetworkReady", "container runtime network not ready")):  # fmt: skip
        found = conditions.get(kind)
        if found is None:
            faults.append(f"{text}: <nil>")
        elif not found.status:
            faults.append(f"{text}: {kind}=false reason:{found.reason} message:{found.message}")
    features = answer.features if answer.HasField("features") else None
    return RuntimeState(
        faults=tuple(faults),
        version=version,
        handlers=tuple(sorted(
            (one.name, one.features.recursive_read_only_mounts, one.features.user_namespaces)
            for one in answer.runtime_handlers
        )),
        supplemental_groups_policy=features.supplemental_groups_policy if features else None,
        host_network_user_namespaces=bool(
            features and getattr(features, "user_namespaces_host_network", False)
        ),
    )  # fmt: skip


def _why(error: CriError | TimeoutError) -> str:
    if isinstance(error, CriError):
        # Not which call it was: the reason does not change with it.
        return f"{error.code.name}: {error.message}"
    return f"no answer within {ANSWER_TIMEOUT:g} s"


@dataclass
class RuntimeHealth:
    """Follows a runtime.

    Args:
        cri: the runtime.
        changed: called when the state changed.
    """

    cri: CriClient
    changed: Callable[[], None]
    state: RuntimeState = field(default_factory=RuntimeState)
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is known whether the runtime is well."""
    _answered: float = 0.0
    _version: str = ""

    async def run(self) -> None:
        """Follow the runtime for ever."""
        self._answered = asyncio.get_running_loop().time()
        while True:
            lost = asyncio.ensure_future(self.cri.connection_lost())
            try:
                await self._ask()
                pause = ASK_BROKEN_EVERY if self.state.faults else ASK_EVERY
                await asyncio.wait({lost}, timeout=pause)
            finally:
                lost.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await lost

    async def _ask(self) -> None:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                if not self._version:
                    about = await self.cri.version()
                    self._version = f"{about.runtime_name}://{about.runtime_version}"
                state = state_of(await self.cri.status(), self._version)
            self._answered = now()
        except (CriError, TimeoutError) as error:
            slow = isinstance(error, TimeoutError) or (
                error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            )
            if slow and now() - self._answered < SLOW:
                return
            # The next one that answers may be another version.
            self._version = ""
            state = RuntimeState(
                faults=(f"{DOWN}: {self.cri.endpoint}: {_why(error)}",),
                version=self.state.version,
                handlers=self.state.handlers,
                supplemental_groups_policy=self.state.supplemental_groups_policy,
            )
        if state != self.state:
            self.state = state
            self.changed()
        self.checked.set()
