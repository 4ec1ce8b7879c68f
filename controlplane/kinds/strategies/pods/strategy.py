"""How pods are made, changed and ended."""

from __future__ import annotations

import copy
from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.formats import label_problems
from controlplane.api.metadata import forbidden, wrong
from controlplane.api.resource import Context, Object, Strategy
from controlplane.kinds.strategies.pods.columns import COLUMNS, pod_row
from controlplane.kinds.strategies.pods.quality import quality_class
from controlplane.kinds.strategies.pods.resizing import check_resize, keep_resize
from controlplane.kinds.strategies.pods.statuses import (
    STATUS_LISTS,
    check_status,
    keep_observed_generations,
)
from controlplane.kinds.strategies.pods.updates import (
    check_annotation_changes,
    check_ephemeral,
    check_update,
)
from controlplane.kinds.strategies.podspec import (
    check_pod_spec,
    default_pod,
    default_pod_spec,
    pod_warnings,
)
from controlplane.kinds.strategies.podspec.advice import OLD_PROFILE
from controlplane.kinds.strategies.podspec.annotations import (
    check_annotations,
    check_same_profiles,
    deprecated_profiles,
)
from controlplane.kinds.strategies.podspec.containers import check_image
from controlplane.kinds.strategies.podspec.defaults import GRACE, visit_containers

_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_FIELDS = ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName")


class PodStrategy(Strategy):
    """v1 Pod.

    Source: Kubernetes documentation, "Pods", "Pod Lifecycle", "Field Selectors".
    """

    columns = COLUMNS
    grace = GRACE
    selectable = frozenset({
        *(f"spec.{name}" for name in _FIELDS), "spec.hostNetwork", "status.phase", "status.podIP",
        "status.podIPs", "status.nominatedNodeName",
    })  # fmt: skip

    def default(self, value: Object) -> None:
        """Put in what absent fields of the spec stand for."""
        spec = value.setdefault("spec", {})
        default_pod_spec(spec)
        default_pod(spec)

    def prepare_create(self, value: Object, context: Context) -> None:
        """Begin as a pending pod; a status of the client is dropped."""
        spec = value["spec"]
        status: Object = {"phase": "Pending", "qosClass": quality_class(spec)}
        if spec.get("schedulingGates"):
            status["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]
        value["status"] = status
        labels = value["metadata"].get("labels", {})
        _add_label_keys(spec, labels)
        if spec.get("os", {}).get("name") == "windows":
            return
        annotations = value["metadata"].get("annotations", {})
        containers = list(visit_containers(spec, "spec"))
        for key, container, profile in deprecated_profiles(annotations, spec, containers):
            context.warnings.append(f"metadata.annotations[{key}]: {OLD_PROFILE}")
            if profile is not None:
                container.setdefault("securityContext", {})["appArmorProfile"] = profile

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Keep everything but what the subresource is about, if it is one."""
        if context.subresource in ("ephemeralcontainers", "resize"):
            spec = value["spec"]
            kept = copy.deepcopy(old["spec"])
            if context.subresource == "resize":
                kept = keep_resize(spec, old["spec"])
            elif spec.get("ephemeralContainers"):
                kept["ephemeralContainers"] = spec["ephemeralContainers"]
            else:
                kept.pop("ephemeralContainers", None)
            value["spec"] = kept
            value["status"] = old.get("status", {})
            # Of the metadata only the version that the change is for counts.
            kept_books = {
                key: value["metadata"][key]
                for key in ("managedFields", "resourceVersion")
                if key in value["metadata"]
            }
            meta = {**copy.deepcopy(old["metadata"]), **kept_books}
            if "resourceVersion" not in kept_books:
                meta.pop("resourceVersion", None)
            value["metadata"] = meta

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Keep the owners, and what an older kubelet does not know of."""
        status = value.setdefault("status", {})
        before = old.get("status", {})
        owners = old["metadata"].get("ownerReferences")
        value["metadata"].pop("ownerReferences", None)
        if owners is not None:
            value["metadata"]["ownerReferences"] = owners
        if not status.get("qosClass") and "qosClass" in before:
            status["qosClass"] = before["qosClass"]
        keep_observed_generations(status, before)
        for name in STATUS_LISTS:
            for one in status.get(name, ()):
                one.setdefault("state", {})
                one.setdefault("lastState", {})
        _set_address(status)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the pod, or with what has changed of it."""
        causes = _check_all(value)
        if old is not None:
            return causes + check_update(value, old)
        spec = value["spec"]
        if spec.get("ephemeralContainers"):
            causes.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            text = "cannot be set until all schedulingGates have been cleared"
            causes.append(forbidden("spec.nodeName", text))
        containers = list(visit_containers(spec, "spec"))
        annotations = value["metadata"].get("annotations", {})
        return causes + check_same_profiles(annotations, spec, containers, "spec")

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with what a kubelet says."""
        return check_status(value, old)

    def validate_subresource(self, value: Object, old: Object, subresource: str) -> list[Cause]:
        """Return what is wrong with new ephemeral containers or resources."""
        if subresource == "ephemeralcontainers":
            causes = _check_all(value) + check_annotation_changes(value, old)
            return causes + check_ephemeral(value, old)
        if subresource == "resize":
            return _check_all(value) + check_resize(value, old)
        # A binding changes nothing that could be wrong.
        return []

    def is_new_generation(self, value: Object, old: Object) -> bool:
        """Say whether the spec has changed; being given to a node is no change of it."""
        now, then = ({**pod["spec"], "nodeName": ""} for pod in (value, old))
        return bool(now != then)

    def warnings(self, value: Object) -> list[str]:
        """Return what is old, doubtful or no good name of a host."""
        problems = label_problems(value["metadata"].get("name", ""))
        found = [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising "
            f"behavior; a DNS label is recommended: [{' '.join(problems)}]"
        ]
        return (found if problems else []) + pod_warnings(value)

    def deletion_grace(self, value: Object, asked: int | None) -> int:
        """Return the seconds that the containers have; 0 if there is nobody to wait for."""
        spec, phase = value.get("spec", {}), value.get("status", {}).get("phase", "")
        # Nobody is there to confirm, or there is nothing left to end.
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return 0
        grace = spec.get("terminationGracePeriodSeconds", 0) if asked is None else asked
        return grace if grace >= 0 else 1

    def fields(self, value: Object) -> dict[str, str]:
        """Return the fields that pods can be selected by."""
        spec, status = value.get("spec", {}), value.get("status", {})
        addresses = status.get("podIPs", [])
        address = addresses[0].get("ip", "") if addresses else ""
        return {
            **{f"spec.{name}": spec.get(name, "") for name in _FIELDS},
            "spec.hostNetwork": str(bool(spec.get("hostNetwork"))).lower(),
            "status.phase": status.get("phase", ""),
            "status.podIP": address,
            # Never set by Kubernetes either, though it takes the selector.
            "status.podIPs": "",
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def row(self, value: Object) -> list[Any]:
        """Return the cells of the table."""
        return pod_row(value)


def _check_all(pod: Object) -> list[Cause]:
    meta, spec = pod["metadata"], pod["spec"]
    annotations = meta.get("annotations", {})
    names = {container.get("name", "") for container, _ in visit_containers(spec, "spec")}
    text = "name is neither a standard finalizer name nor is it fully qualified"
    causes = [
        wrong(f"metadata.finalizers[{index}]", name, text)
        for index, name in enumerate(meta.get("finalizers", ()))
        if "/" not in name and name not in _FINALIZERS
    ]
    causes += check_annotations(annotations, spec, names, "metadata.annotations")
    causes += check_pod_spec(spec, "spec", is_pod=True, pod=meta.get("name", ""))
    if not spec.get("serviceAccountName"):
        for index, volume in enumerate(spec.get("volumes", ())):
            for number, source in enumerate(volume.get("projected", {}).get("sources", ())):
                if "serviceAccountToken" in source:
                    at = f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken"
                    text = "must not be specified when serviceAccountName is not set"
                    causes.append(forbidden(at, text))
    for name in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(name, ())):
            causes += check_image(container, f"spec.{name}[{index}]")
    return causes


def _set_address(status: Object) -> None:
    """Make the two fields of addresses agree; the single one, which older kubelets set, rules."""
    address, addresses = status.get("podIP", ""), status.get("podIPs", [])
    if address and (not addresses or addresses[0].get("ip") != address):
        status["podIPs"] = [{"ip": address}]
    elif addresses:
        status["podIP"] = addresses[0].get("ip", "")


def _add_label_keys(spec: Object, labels: dict[str, str]) -> None:
    """Make the pod's own labels part of selectors that ask for that (KEP-3633, KEP-3243)."""
    affinity = spec.get("affinity", {})
    terms: list[Object] = list(spec.get("topologySpreadConstraints", ()))
    for name in ("podAffinity", "podAntiAffinity"):
        kinds = affinity.get(name, {})
        terms += kinds.get("requiredDuringSchedulingIgnoredDuringExecution", ())
        terms += [
            weighted["podAffinityTerm"]
            for weighted in kinds.get("preferredDuringSchedulingIgnoredDuringExecution", ())
            if "podAffinityTerm" in weighted
        ]
    for term in terms:
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            added = [
                {"key": key, "operator": operator, "values": [labels[key]]}
                for key in term.get(field, ())
                if key in labels
            ]
            if added and "labelSelector" in term:
                term["labelSelector"].setdefault("matchExpressions", []).extend(added)
