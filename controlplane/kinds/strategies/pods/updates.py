"""What may change of a pod (pure).

Source: Kubernetes documentation, "Pod update and replacement", "Pod Scheduling Readiness",
"Ephemeral Containers"; KEP-3838 (gated pods).
"""

from __future__ import annotations

import copy
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.annotations import APPARMOR, MIRROR

_CHANGEABLE: Final = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MAX_DEADLINE: Final = (1 << 31) - 1
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def check_update(pod: Object, old: Object) -> list[Cause]:
    """Return what of a change of the pod itself may not be."""
    spec, before = pod["spec"], old["spec"]
    causes = check_annotation_changes(pod, old)
    for name in ("containers", "initContainers"):
        now, then = spec.get(name, []), before.get(name, [])
        if len(now) != len(then):
            text = "pod updates may not add or remove containers"
            return [*causes, forbidden(f"spec.{name}", text)]
        for index, container in enumerate(now):
            image, at = container.get("image", ""), f"spec.{name}[{index}].image"
            if not image:
                causes.append(required(at))
            if image != image.strip():
                causes.append(wrong(at, image, "must not have leading or trailing whitespace"))
    found, stop = _check_deadline(spec.get("activeDeadlineSeconds"), before)
    causes += found
    if stop:
        return causes
    causes += _check_tolerations(spec, before)
    known = {gate.get("name") for gate in before.get("schedulingGates", ())}
    for index, gate in enumerate(spec.get("schedulingGates", ())):
        if gate.get("name") not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            causes.append(forbidden(f"spec.schedulingGates[{index}].name", text))
    return causes + _check_rest(spec, before)


def check_annotation_changes(pod: Object, old: Object) -> list[Cause]:
    """Return which annotations were changed that stay as they are for a pod's life."""
    now = pod["metadata"].get("annotations", {})
    then = old["metadata"].get("annotations", {})
    causes: list[Cause] = []
    for key in [*then, *(key for key in now if key not in then)]:
        if now.get(key) == then.get(key) or not (key.startswith(APPARMOR) or key == MIRROR):
            continue
        verb = "remove or update" if key in then else "add"
        what = "mirror pod annotation" if key == MIRROR else "AppArmor annotations"
        causes.append(forbidden(f"metadata.annotations[{key}]", f"may not {verb} {what}"))
    return causes


def check_ephemeral(pod: Object, old: Object) -> list[Cause]:
    """Return what of a change of the ephemeral containers may not be: they are only added."""
    if MIRROR in old["metadata"].get("annotations", {}):
        return [forbidden("", "static pods do not support ephemeral containers")]
    path = "spec.ephemeralContainers"
    now = {c.get("name"): c for c in pod["spec"].get("ephemeralContainers", ())}
    causes: list[Cause] = []
    for container in old["spec"].get("ephemeralContainers", ()):
        name = container.get("name", "")
        start = f'existing ephemeral containers "{name}" may not be'
        if name not in now:
            causes.append(forbidden(path, f"{start} removed\n"))
        elif plain(now[name]) != plain(container):
            causes.append(forbidden(path, f"{start} changed\n"))
    return causes


def plain(value: Any) -> Any:
    """Return a value without empty lists, which mean the same as absent ones."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item not in ([], None)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _check_deadline(seconds: int | None, before: Object) -> tuple[list[Cause], bool]:
    path, then = "spec.activeDeadlineSeconds", before.get("activeDeadlineSeconds")
    if seconds is None:
        text = "must not update from a positive integer to nil value"
        return ([] if then is None else [wrong(path, None, text)]), False
    if not 0 <= seconds <= _MAX_DEADLINE:
        text = f"must be between 0 and {_MAX_DEADLINE}, inclusive"
        return [wrong(path, seconds, text)], True
    if then is not None and then < seconds:
        return [wrong(path, seconds, "must be less than or equal to previous value")], True
    return [], False


def _check_tolerations(spec: Object, before: Object) -> list[Cause]:
    def timeless(toleration: Object) -> Object:
        return {key: item for key, item in toleration.items() if key != "tolerationSeconds"}

    now = [timeless(toleration) for toleration in spec.get("tolerations", ())]
    if all(timeless(toleration) in now for toleration in before.get("tolerations", ())):
        return []
    text = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden("spec.tolerations", text)]


def _check_rest(spec: Object, before: Object) -> list[Cause]:
    """Everything else must be as it was; pods with gates may still say more of their node."""
    rest = copy.deepcopy(spec)
    for name in ("containers", "initContainers"):
        for container, old in zip(rest.get(name, ()), before.get(name, ()), strict=True):
            container["image"] = old.get("image")
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _take(rest, before, key)
    grace = before.get("terminationGracePeriodSeconds", 0)
    if grace < 0 and rest.get("terminationGracePeriodSeconds") == 1:
        rest["terminationGracePeriodSeconds"] = grace
    causes = _check_gated(rest, before) if before.get("schedulingGates") else []
    rest, then = plain(rest), plain(before)
    if rest == then:
        return causes
    changed = sorted(key for key in rest.keys() | then.keys() if rest.get(key) != then.get(key))
    listed = ", ".join(f"spec.{key}" for key in changed)
    text = f"pod updates may not change fields other than {_CHANGEABLE}\nchanged: {listed}"
    return [*causes, forbidden("spec", text)]


def _check_gated(rest: Object, before: Object) -> list[Cause]:
    causes: list[Cause] = []
    selector, then = rest.get("nodeSelector", {}), before.get("nodeSelector", {})
    if any(selector.get(key) != value for key, value in then.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.append(wrong("spec.nodeSelector", selector, text))
    _take(rest, before, "nodeSelector")
    now = rest.get("affinity", {}).get("nodeAffinity", {})
    old = before.get("affinity", {}).get("nodeAffinity", {})
    if now == old:
        return causes
    causes += _check_terms(now, old)
    affinity = {
        key: item for key, item in rest.get("affinity", {}).items() if key != "nodeAffinity"
    }
    if "nodeAffinity" in before.get("affinity", {}):
        affinity["nodeAffinity"] = old
    rest["affinity"] = affinity
    if not affinity and "affinity" not in before:
        del rest["affinity"]
    return causes


def _check_terms(now: Object, old: Object) -> list[Cause]:
    terms = now.get(_REQUIRED, {}).get("nodeSelectorTerms", [])
    before = old.get(_REQUIRED, {}).get("nodeSelectorTerms", [])
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if before and len(before) != len(terms):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [wrong(path, terms, text)]
    text = "only additions are allowed (no mutations or deletions)"
    return [
        wrong(f"{path}[{index}]", terms[index], text)
        for index, term in enumerate(before)
        if not _only_more(terms[index], term)
    ]


def _only_more(term: Object, old: Object) -> bool:
    kinds = ("matchExpressions", "matchFields")
    if not any(old.get(kind) for kind in kinds):
        # A term that matches nothing cannot begin to match something.
        return not any(term.get(kind) for kind in kinds)
    return all(term.get(kind, [])[: len(old.get(kind, []))] == old.get(kind, []) for kind in kinds)


def _take(value: Object, source: Object, key: str) -> None:
    if key in source:
        value[key] = copy.deepcopy(source[key])
    else:
        value.pop(key, None)
