"""The admission of pods to the node: asks, makes room for critical pods, and has parts taken.

What the other parts of the kubelet give a pod (devices, CPUs, memory) or hold against it (a node
that is shutting down, or short of memory) is asked last, of `Core.admitters`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kubeletpy.api.base import now
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.status import PodCondition
from kubeletpy.events import Recorder
from kubeletpy.pods.state import Terminal
from kubeletpy.registration.capacity import allocatable, capacity, written
from kubeletpy.registration.machine import read_machine
from kubeletpy.status.ownership import DISRUPTION_TARGET
from kubeletpy_common.apiclient.client import object_path
from kubeletpy_common.apiclient.errors import ApiError

from . import sysctls
from .predicates import (
    OS,
    OS_LABEL,
    Insufficient,
    Mismatch,
    NodeView,
    Refusal,
    Taint,
    amount,
    failures,
    refusal,
)
from .preemption import NotEnough, is_critical, victims

if TYPE_CHECKING:
    from kubeletpy.core import Core

PATIENCE = 60.0
"""Seconds that a part may take to give a pod what it wants."""
UNEXPECTED = "UnexpectedAdmissionError"
PREEMPTED = "Preempted in order to admit critical pod"


class Refused(Protocol):
    """Why a part of the kubelet does not admit a pod."""

    reason: str
    message: str


Admitter = Callable[[Pod], Awaitable[Refused | None]]
End = Callable[[Pod, Terminal, PodCondition], Awaitable[None]]


class Admission:
    """Decides about pods one after the other.

    Args:
        node: returns the node as it is now, None while it is not known.
        fresh: asks the API server for it; where labels are all that is wrong they may be new.
        admitters: the parts that have a say.
        end: ends a pod, and returns once nothing of it runs.
        recorder: takes events.
    """

    def __init__(
        self,
        node: Callable[[], NodeView | None],
        fresh: Callable[[], Awaitable[NodeView | None]],
        admitters: Sequence[Admitter],
        end: End,
        recorder: Recorder,
    ) -> None:
        self._node = node
        self._fresh = fresh
        self._admitters = admitters
        self._end = end
        self._recorder = recorder

    async def admit(self, pod: Pod, others: Sequence[Pod]) -> Refusal | None:
        """Return why ``pod`` may not run beside the ``others``; None if it may."""
        node = self._node()
        if node is not None:
            never = refusal(pod, node)
            if never is not None:
                return never
            refused = await self._fits(pod, node, others)
            if refused is not None:
                return refused
        for admitter in self._admitters:
            try:
                async with asyncio.timeout(PATIENCE):
                    denied = await admitter(pod)
            except Exception as error:  # whatever broke there, the pod must not run without it
                reason = str(error) or type(error).__name__
                return Refusal(UNEXPECTED, f"Allocate failed due to {reason}, which is unexpected")
            if denied is not None:
                return Refusal(denied.reason, denied.message)
        return None

    async def _fits(self, pod: Pod, node: NodeView, others: Sequence[Pod]) -> Refusal | None:
        found = failures(pod, node, others)
        if found and all(isinstance(one, Mismatch) and one.name == "NodeAffinity" for one in found):
            found = failures(pod, await self._fresh() or node, others)
        if not found:
            return None
        mismatches = [one for one in found if isinstance(one, Mismatch)]
        if not is_critical(pod):
            return Refusal(found[0].reason, found[0].message)
        if mismatches:
            return Refusal(mismatches[0].reason, mismatches[0].message)
        missing = {one.resource: one.missing for one in found if isinstance(one, Insufficient)}
        try:
            going = victims(pod, others, missing)
        except NotEnough as error:
            text = (
                "Unexpected error while attempting to recover from admission failure: "
                f"preemption: error finding a set of pods to preempt: {error}"
            )
            return Refusal(UNEXPECTED, text)
        await asyncio.gather(*(self._preempt(one) for one in going))
        return None

    async def _preempt(self, pod: Pod) -> None:
        self._recorder.warning(pod, "Preempting", PREEMPTED)
        condition = PodCondition(
            type=DISRUPTION_TARGET,
            status="True",
            reason="TerminationByKubelet",
            message="Pod was preempted by Kubelet to accommodate a critical pod.",
            observed_generation=pod.metadata.generation,
            last_transition_time=now(),
        )
        await self._end(pod, Terminal("Failed", "Preempting", PREEMPTED), condition)


def view_of(node: Mapping[str, Any]) -> NodeView:
    """Return what admission has to know of a Node object (pure)."""
    metadata, spec = node.get("metadata") or {}, node.get("spec") or {}
    status = node.get("status") or {}
    allocatable = {}
    for name, text in (status.get("allocatable") or {}).items():
        allocatable[name] = amount(name, Quantity(str(text)))
    features = status.get("features") or {}
    return NodeView(
        name=str(metadata.get("name") or ""),
        labels={OS_LABEL: OS, **(metadata.get("labels") or {})},
        taints=[
            Taint(
                str(one.get("key") or ""),
                str(one.get("value") or ""),
                str(one.get("effect") or ""),
            )
            for one in spec.get("taints") or ()
        ],
        allocatable=allocatable,
        supplemental_groups=bool(features.get("supplementalGroupsPolicy", True)),
    )


def standalone_node(core: Core) -> dict[str, Any]:
    """Return the node of a kubelet without an API server: its name, and what pods may use."""
    facts, settings = core.facts, core.settings
    machine = read_machine(settings.root_dir, cpus=facts.cpu_milli // 1000)
    has = capacity(machine, settings.configuration)
    amounts = {"capacity": written(has), "allocatable": written(allocatable(has, settings))}
    return {"metadata": {"name": facts.name}, "status": amounts}


def install(core: Core) -> None:
    """Have pods admitted before they start."""
    presence, api = core.presence, core.api
    alone = standalone_node(core) if api is None else {}

    def node() -> NodeView | None:
        if api is None:
            status = {name: dict(amounts) for name, amounts in alone["status"].items()}
            for add in core.node_adders:
                add(status)
            return view_of({**alone, "status": status})
        if presence is None or presence.node is None:
            return None
        return view_of(presence.node)

    async def fresh() -> NodeView | None:
        if api is None:
            return None
        try:
            return view_of(await api.get(object_path("v1", "nodes", "", core.facts.name)))
        except ApiError:
            return None

    core.admitters.insert(0, sysctls.admitter(core.settings.configuration.allowed_unsafe_sysctls))
    admission = Admission(node, fresh, core.admitters, core.manager.workers.end, core.recorder)
    core.manager.admission = admission.admit
