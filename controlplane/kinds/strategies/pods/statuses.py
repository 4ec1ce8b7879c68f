"""What a kubelet may say of a pod (pure).

Source: Kubernetes API reference, PodStatus; KEP-5307 (restart rules), KEP-5067 (observed
generations).
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import ip_problems, label_key_problems, subdomain_problems
from controlplane.api.metadata import duplicate, forbidden, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.pods.updates import check_annotation_changes

_OWN_CONDITIONS: Final = ("PodScheduled", "Ready", "Initialized")
STATUS_LISTS: Final = {
    "containerStatuses": "containers",
    "initContainerStatuses": "initContainers",
    "ephemeralContainerStatuses": "",
}
"""Fields of states of containers, and those of their definitions; "" where nothing restarts."""


def keep_observed_generations(status: Object, old: Object) -> None:
    """Keep what an older client does not know of: which generation a state is about."""
    if not status.get("observedGeneration") and old.get("observedGeneration"):
        status["observedGeneration"] = old["observedGeneration"]
    known: dict[str, list[int]] = {}
    for condition in old.get("conditions", ()):
        number = condition.get("observedGeneration", 0)
        known.setdefault(condition.get("type", ""), []).append(number)
    for condition in status.get("conditions", ()):
        generations = known.get(condition.get("type", ""))
        number = generations.pop(0) if generations else 0
        if not condition.get("observedGeneration") and number:
            condition["observedGeneration"] = number


def check_status(pod: Object, old: Object) -> list[Cause]:
    """Return what is wrong with a changed status."""
    status, before, spec = pod.get("status", {}), old.get("status", {}), old.get("spec", {})
    causes = check_annotation_changes(pod, old)
    causes += _check_conditions(status.get("conditions", []))
    causes += _check_nomination(status, before, spec)
    if status.get("observedGeneration", 0) < 0:
        number, text = status["observedGeneration"], "must be a non-negative integer"
        causes.append(wrong("status.observedGeneration", number, text))
    if status.get("qosClass") != before.get("qosClass"):
        text = "field is immutable"
        causes.append(wrong("status.qosClass", status.get("qosClass", ""), text))
    for name, containers in STATUS_LISTS.items():
        now, then = status.get(name, []), before.get(name, [])
        causes += _check_states(now, then, spec, containers, f"status.{name}")
    causes += _check_claims(status.get("resourceClaimStatuses", []), spec)
    causes += _check_addresses("podIPs", status, before)
    return causes + _check_addresses("hostIPs", status, before)


def _check_conditions(conditions: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    for index, condition in enumerate(conditions):
        at, kind = f"status.conditions[{index}]", condition.get("type", "")
        if condition.get("observedGeneration", 0) < 0:
            number, text = condition["observedGeneration"], "must be a non-negative integer"
            causes.append(wrong(f"{at}.observedGeneration", number, text))
        if kind not in _OWN_CONDITIONS:
            causes += [wrong(f"{at}.Type", kind, why) for why in label_key_problems(kind)]
    return causes


def _check_nomination(status: Object, before: Object, spec: Object) -> list[Cause]:
    name, path = status.get("nominatedNodeName", ""), "status.nominatedNodeName"
    if not name or name == before.get("nominatedNodeName"):
        return []
    causes = [wrong(path, name, why) for why in subdomain_problems(name)]
    if spec.get("nodeName"):
        text = "may not be set on pods that are already bound to a node"
        causes.append(forbidden(path, text))
    return causes


def _check_states(
    now: list[Object], then: list[Object], spec: Object, containers: str, path: str
) -> list[Cause]:
    """Containers that ended for good do not run again."""
    if containers and _restarts_all(spec):
        return []
    states = {status.get("name"): status.get("state", {}) for status in reversed(now)}
    definitions = {c.get("name"): c for c in spec.get(containers, ())} if containers else {}
    causes: list[Cause] = []
    for index, status in enumerate(then):
        ended = status.get("state", {}).get("terminated")
        state = states.get(status.get("name"))
        if ended is None or state is None or "terminated" in state:
            continue
        container = definitions.get(status.get("name"))
        if container is None or not _restarts(container, spec, ended.get("exitCode", 0)):
            text = "may not be transitioned to non-terminated state"
            causes.append(forbidden(f"{path}[{index}].state", text))
    return causes


def _restarts_all(spec: Object) -> bool:
    return any(
        rule.get("action") == "RestartAllContainers"
        for name in ("initContainers", "containers")
        for container in spec.get(name, ())
        for rule in container.get("restartPolicyRules", ())
    )


def _restarts(container: Object, spec: Object, code: int) -> bool:
    policy = container.get("restartPolicy") or spec.get("restartPolicy", "Always")
    for rule in container.get("restartPolicyRules", ()):
        codes = rule.get("exitCodes", {})
        wanted = {"In": True, "NotIn": False}.get(codes.get("operator", ""))
        if wanted is not None and (code in codes.get("values", ())) is wanted:
            if rule.get("action") in ("Restart", "RestartAllContainers"):
                return True
            break
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _check_claims(statuses: list[Object], spec: Object) -> list[Cause]:
    known = {claim.get("name") for claim in spec.get("resourceClaims", ())}
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, status in enumerate(statuses):
        at, name = f"status.resourceClaimStatuses[{index}]", status.get("name", "")
        if name not in known:
            text = "must match the name of an entry in `spec.resourceClaims`"
            causes.append(wrong(f"{at}.name", name, text))
        if name in seen:
            causes.append(duplicate(f"{at}.name", name))
        seen.add(name)
        claim = status.get("resourceClaimName")
        if claim is not None:
            problems = subdomain_problems(claim)
            causes += [wrong(f"{at}.resourceClaimName", claim, why) for why in problems]
    return causes


def _check_addresses(name: str, status: Object, before: Object) -> list[Cause]:
    path, entries = f"status.{name}", status.get(name, [])
    addresses = [entry.get("ip", "") for entry in entries]
    known = {entry.get("ip") for entry in before.get(name, ())}
    causes: list[Cause] = []
    if name == "hostIPs" and addresses and addresses[0] != status.get("hostIP", ""):
        causes.append(wrong(f"{path}[0].ip", addresses[0], "must be equal to `hostIP`"))
    for index, address in enumerate(addresses):
        if address not in known:
            causes += [wrong(f"{path}[{index}]", address, why) for why in ip_problems(address)]
    if len(addresses) > 1:
        families = {_family(address) for address in addresses}
        if families != {4, 6} or len(addresses) > 2:
            text = "may specify no more than one IP for each IP family"
            shown: list[Any] = [{"IP": address} for address in addresses]
            causes.append(wrong(path, shown, text))
    return causes


def _family(address: str) -> int:
    """Return 4 or 6; 0 if it is no address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0


def check_binding_target(target: Object) -> list[Cause]:
    """Return what is wrong with what a pod shall be bound to."""
    causes: list[Cause] = []
    if target.get("kind", "Node") not in ("", "Node"):
        causes.append(unsupported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        causes.append(Cause("FieldValueRequired", "Required value", "target.name"))
    return causes
