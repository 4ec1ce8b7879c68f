"""scheduling.k8s.io, node.k8s.io and coordination.k8s.io: PriorityClass, RuntimeClass, Lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import check_labels, duplicate, forbidden, required, wrong
from controlplane.api.resource import AGE, Column, Context, Object, Strategy
from controlplane.kinds.checks import check_dns_label, check_immutable, check_one_of
from controlplane.kinds.strategies.base import Plain
from controlplane.kinds.strategies.podspec.resources import check_container_resources
from controlplane.kinds.strategies.podspec.scheduling import check_tolerations

_SYSTEM: Final = "system-"
_SYSTEM_CLASSES: Final = {"system-node-critical": 2_000_001_000,
                          "system-cluster-critical": 2_000_000_000}  # fmt: skip
_HIGHEST: Final = 1_000_000_000
_COORDINATED: Final = ("strategy", "preferredHolder")
_LEASE_STRATEGIES: Final = ("OldestEmulationVersion",)


class PriorityClass(Plain):
    """Priorities of pods; those above a thousand million are the system's own."""

    columns = (
        Column("Value", "integer", description="The priority."),
        Column("Global-Default", "boolean", description="Whether pods have it that name none."),
        AGE,
        Column("PreemptionPolicy", description="Whether its pods drive others away."),
    )

    def default(self, value: Object) -> None:
        """Put in value and policy."""
        value.setdefault("value", 0)
        value.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def prepare_create(self, value: Object, context: Context) -> None:
        """Begin to count generations, of which there is only one."""
        value["metadata"]["generation"] = 1

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with a new class, or what of it may not be changed."""
        number = value["value"]
        if old is not None:
            causes: list[Cause] = []
            if number != old["value"]:
                causes.append(forbidden("value", "may not be changed in an update."))
            policy = value.get("preemptionPolicy")
            return causes + check_immutable(policy, old.get("preemptionPolicy"), "preemptionPolicy")
        causes = _check_priority(value)
        known = ("Never", "PreemptLowerPriority")
        return causes + check_one_of(value["preemptionPolicy"], "preemptionPolicy", known)

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [
            value.get("value", 0),
            value.get("globalDefault", False),
            value.get("preemptionPolicy", ""),
        ]


def _check_priority(value: Object) -> list[Cause]:
    name, number = value["metadata"].get("name", ""), value["value"]
    if name.startswith(_SYSTEM):
        if _SYSTEM_CLASSES.get(name) == number and not value.get("globalDefault"):
            return []
        text = f"priority class names with '{_SYSTEM}' prefix are reserved for system use only"
        return [forbidden("metadata.name", text)]
    if number > _HIGHEST:
        text = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        return [forbidden("value", text)]
    return []


class RuntimeClass(Plain):
    """Handlers of a container runtime."""

    create_on_update = True
    unconditional = False
    columns = (Column("Handler", description="How the container runtime calls it."),)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with handler, overhead and scheduling."""
        handler = value.get("handler", "")
        if old is not None:
            return check_immutable(handler, old.get("handler"), "handler")
        causes = check_dns_label(handler, "handler") if handler else [required("handler")]
        fixed = value.get("overhead", {}).get("podFixed")
        if fixed:
            causes += check_container_resources({"limits": fixed}, set(), "overhead")
        scheduling = value.get("scheduling", {})
        path = "scheduling.nodeSelector"
        causes += check_labels(scheduling.get("nodeSelector", {}), path)
        tolerations, path = scheduling.get("tolerations", []), "scheduling.tolerations"
        causes += check_tolerations(tolerations, path)
        keys = ("key", "operator", "value", "effect")
        told = [[one.get(key, "") for key in keys] for one in tolerations]
        causes += [
            duplicate(f"{path}[{index}]", tolerations[index])
            for index, one in enumerate(told)
            if one in told[:index]
        ]
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [value.get("handler", "")]


class Lease(Plain):
    """Leases: who holds something, and until when."""

    create_on_update = True
    unconditional = False
    columns = (Column("Holder", description="Who holds it."),)

    def default(self, value: Object) -> None:
        """Put in an empty spec."""
        value.setdefault("spec", {})

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop what is not yet to be had (feature gate CoordinatedLeaderElection)."""
        for key in _COORDINATED:
            value["spec"].pop(key, None)

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Likewise."""
        for key in _COORDINATED:
            if key not in old["spec"]:
                value["spec"].pop(key, None)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with durations and strategy."""
        spec = value["spec"]
        causes: list[Cause] = []
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions", 0)
        if seconds is not None and seconds <= 0:
            causes.append(wrong("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        if transitions < 0:
            text = "must be greater than or equal to 0"
            causes.append(wrong("spec.leaseTransitions", transitions, text))
        strategy = spec.get("strategy")
        if strategy is not None:
            causes += check_one_of(strategy, "spec.strategy", _LEASE_STRATEGIES)
        if spec.get("preferredHolder") and not strategy:
            text = "may only be specified if `strategy` is defined"
            causes.append(forbidden("spec.preferredHolder", text))
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [value["spec"].get("holderIdentity", "")]


SCHEDULING: Final[Mapping[str, Strategy]] = {
    "coordination.k8s.io/leases": Lease(),
    "node.k8s.io/runtimeclasses": RuntimeClass(),
    "scheduling.k8s.io/priorityclasses": PriorityClass(),
}
