"""DefaultTolerationSeconds and TaintNodesByCondition: pods outlive short troubles of their node,
and none is put on a node that is not ready yet.

Source: Kubernetes documentation, "Taints and Tolerations", "Taint based Evictions".
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.admission.refusals import is_of
from controlplane.api.resource import Context, Object, Resource

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_SECONDS: Final = 300


class DefaultTolerationSeconds:
    """Has every pod tolerate a node in trouble for five minutes, unless it says otherwise."""

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a pod."""
        if is_of(resource, "", "pods") and not context.subresource:
            add_tolerations(value.setdefault("spec", {}))


class TaintNodesByCondition:
    """Marks every new node as not ready."""

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a new node."""
        if is_of(resource, "", "nodes") and old is None and not context.subresource:
            add_taint(value.setdefault("spec", {}))


def add_tolerations(spec: Object) -> None:
    """Add what a pod does not tolerate on its own terms (pure)."""
    present = spec.get("tolerations", [])
    missing = [key for key in (NOT_READY, UNREACHABLE) if not _covers(present, key)]
    if missing:
        spec["tolerations"] = [
            *present,
            *({"key": key, "operator": "Exists", "effect": "NoExecute",
               "tolerationSeconds": _SECONDS} for key in missing),
        ]  # fmt: skip


def add_taint(spec: Object) -> None:
    """Add the taint of a node that is not ready, if it has none of its kind (pure)."""
    taints = spec.get("taints", [])
    taint = {"key": NOT_READY, "effect": "NoSchedule"}
    if all((one.get("key"), one.get("effect")) != (NOT_READY, "NoSchedule") for one in taints):
        spec["taints"] = [*taints, taint]


def merge(first: list[Any], second: list[Any]) -> list[Any]:
    """Return the tolerations of both lists, without those that another one contains (pure)."""
    every, merged = [*first, *second], list[Any]()
    for index, one in enumerate(every):
        later = every[index + 1 :]
        if any(_contains(other, one) for other in merged):
            continue
        if any(other != one and _contains(other, one) for other in later):
            continue
        merged.append(one)
    return merged


def _covers(tolerations: list[Any], key: str) -> bool:
    return any(
        one.get("key", "") in (key, "") and one.get("effect", "") in ("NoExecute", "")
        for one in tolerations
    )


def _contains(wide: Any, narrow: Any) -> bool:
    """Say whether ``wide`` tolerates whatever ``narrow`` does."""
    if wide == narrow:
        return True
    exists = wide.get("operator") == "Exists"
    if wide.get("key", "") != narrow.get("key", "") and (wide.get("key") or not exists):
        return False
    if wide.get("effect", "") not in (narrow.get("effect", ""), ""):
        return False
    if wide.get("effect") == "NoExecute" and wide.get("tolerationSeconds") is not None:
        seconds = narrow.get("tolerationSeconds")
        if seconds is None or wide["tolerationSeconds"] < seconds:
            return False
    same = wide.get("operator", "Equal") == narrow.get("operator", "Equal")
    return exists or bool(same and wide.get("value", "") == narrow.get("value", ""))
