"""v1 PersistentVolumeClaim (Kubernetes, pkg/apis/core: defaults, validation)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, wrong
from controlplane.api.resource import Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_dns_label,
    check_dns_subdomain,
    check_immutable,
    check_one_of,
    check_selector,
    is_same,
)
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.base import WithStatus
from controlplane.kinds.strategies.storage.modes import (
    MODES,
    check_access_modes,
    check_size,
    short_modes,
)

CLASS_ANNOTATION: Final = "volume.beta.kubernetes.io/storage-class"
"""Named the class of a volume or a claim before there was a field for it."""

_RESIZES: Final = ("ControllerResizeInProgress", "ControllerResizeInfeasible",
                   "NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible")  # fmt: skip


class PersistentVolumeClaim(WithStatus):
    """Claims: what they ask for is fixed, but for the size and the attributes of bound ones."""

    generation = False
    initial: ClassVar[Mapping[str, Any]] = {"phase": "Pending"}
    columns = (
        Column("Status", description="Whether it is bound."),
        Column("Volume", description="That it is bound to."),
        Column("Capacity", description="Of the volume."),
        Column("Access Modes", description="Of the volume."),
        Column("StorageClass", description="That it asks for."),
        Column("VolumeAttributesClass", description="That it asks for."),
        Column("VolumeMode", priority=1, description="Files or blocks."),
    )

    def default(self, value: Object) -> None:
        """Put in mode and phase."""
        super().default(value)
        default_claim(value)

    def prepare_create(self, value: Object, context: Context) -> None:
        """Tell its source by both fields."""
        super().prepare_create(value, context)
        _drop_unknown_source(value["spec"])
        _align_sources(value["spec"])

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Tell its source by both fields."""
        _align_sources(value["spec"])
        _align_sources(old["spec"])

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec, or what of it may not be changed."""
        causes = check_claim_spec(value["spec"], "spec")
        return causes if old is None else causes + _check_update(value, old)

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with amounts and resizes."""
        status = value.get("status", {})
        causes: list[Cause] = []
        for key in ("capacity", "allocatedResources"):
            for name, amount in status.get(key, {}).items():
                path = f"status.{key}[{name}]"
                if parse(amount) < 0:
                    causes.append(wrong(path, amount, "must be a valid resource quantity"))
        for state in status.get("allocatedResourceStatuses", {}).values():
            causes += check_one_of(state, "status.allocatedResourceStatuses", _RESIZES)
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status, meta = value["spec"], value.get("status", {}), value["metadata"]
        bound = bool(spec.get("volumeName"))
        annotation = meta.get("annotations", {}).get(CLASS_ANNOTATION)
        return [
            "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
            spec.get("volumeName", ""),
            status.get("capacity", {}).get("storage", "0") if bound else "",
            short_modes(status.get("accessModes", ())) if bound else "",
            annotation if annotation is not None else spec.get("storageClassName", ""),
            cells.optional(spec.get("volumeAttributesClassName")),
            cells.optional(spec.get("volumeMode")),
        ]


def default_claim(value: Object) -> None:
    """Put the defaults into a claim, or into a template of claims."""
    spec = value.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("resources", {})
    status = value.setdefault("status", {})
    status["phase"] = status.get("phase") or "Pending"


def check_claim_spec(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with the spec of a claim."""
    causes = check_access_modes(spec.get("accessModes", ()), f"{path}.accessModes")
    causes += check_selector(spec.get("selector"), f"{path}.selector")
    size = spec.get("resources", {}).get("requests", {}).get("storage")
    here = f"{path}.resources[storage]"
    causes += [required(here)] if size is None else check_size(size, here)
    for key in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(key):
            causes += check_dns_subdomain(spec[key], f"{path}.{key}")
    if "volumeMode" in spec:
        causes += check_one_of(spec["volumeMode"], f"{path}.volumeMode", MODES)
    return causes + _check_sources(spec, path)


def _check_sources(spec: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key in ("dataSource", "dataSourceRef"):
        source, here = spec.get(key), f"{path}.{key}"
        if source is None:
            continue
        causes += [required(f"{here}.{name}") for name in ("name", "kind") if not source.get(name)]
        group, kind = source.get("apiGroup", ""), source.get("kind", "")
        if group:
            causes += check_dns_subdomain(group, f"{here}.apiGroup")
        elif kind != "PersistentVolumeClaim":
            text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            causes.append(wrong(here, kind, text))
        if source.get("namespace"):
            causes += check_dns_label(source["namespace"], f"{here}.namespace")
    one, other = spec.get("dataSource"), spec.get("dataSourceRef")
    if one is not None and other is not None:
        if other.get("namespace"):
            text = "dataSource may not be specified when dataSourceRef.namespace is specified"
            causes.append(wrong(path, "dataSource", text))
        elif any(one.get(key) != other.get(key) for key in ("apiGroup", "kind", "name")):
            causes.append(wrong(path, "dataSource", "must match dataSourceRef"))
    return causes


def _align_sources(spec: Object) -> None:
    """Make ``dataSource`` and ``dataSourceRef`` say the same, where one of them is silent."""
    one, other = spec.get("dataSource"), spec.get("dataSourceRef")
    if one is not None and other is None:
        spec["dataSourceRef"] = copy.deepcopy(one)
    elif other is not None and one is None and not other.get("namespace"):
        spec["dataSource"] = {key: item for key, item in other.items() if key != "namespace"}


def _drop_unknown_source(spec: Object) -> None:
    """Drop a source that claims could not be made of when there was only this field for it."""
    source = spec.get("dataSource")
    known = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    if source and (source.get("apiGroup", ""), source.get("kind", "")) not in known:
        del spec["dataSource"]


def _check_update(value: Object, old: Object) -> list[Cause]:
    new, before = copy.deepcopy(value["spec"]), copy.deepcopy(old["spec"])
    bound = value.get("status", {}).get("phase") == "Bound"
    causes: list[Cause] = []
    if not before.get("volumeName"):
        before["volumeName"] = new.get("volumeName")
    annotations = [item["metadata"].get("annotations", {}) for item in (value, old)]
    named = [item.get(CLASS_ANNOTATION) for item in annotations]
    upgraded = (
        named[1] is not None
        and "storageClassName" not in before
        and new.get("storageClassName") == named[1]
        and named[0] in (None, named[1])
    )
    # A claim without any class may get one later (KEP-3333).
    if upgraded or (named[1] is None and before.get("storageClassName") is None):
        before["storageClassName"] = new.get("storageClassName")
    if not upgraded and named[0] != named[1]:
        causes += check_immutable(named[0], named[1], "metadata.annotations")
    sizes = [item.get("resources", {}).get("requests", {}).get("storage") for item in (new, before)]
    if bound:
        before["volumeAttributesClassName"] = new.get("volumeAttributesClassName")
        if sizes[0] is not None and sizes[1] is not None:
            new["resources"]["requests"]["storage"] = sizes[1]
    if not is_same(new, before):
        text = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
        causes.append(forbidden("spec", text))
    causes += _check_shrinking(sizes[0], sizes[1], old)
    causes += check_immutable(new.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    applied = old.get("status", {}).get("currentVolumeAttributesClassName")
    key = "volumeAttributesClassName"
    if applied is not None and old["spec"].get(key) is not None and not new.get(key):
        text = "cannot be removed when status.currentVolumeAttributesClassName is set"
        causes.append(forbidden(f"spec.{key}", text))
    return causes


def _check_shrinking(size: str | None, before: str | None, old: Object) -> list[Cause]:
    """Refuse a smaller size, unless the growth has failed and what there is remains enough."""
    real = old.get("status", {}).get("capacity", {}).get("storage", "0")
    if parse(size or "0") < parse(before or "0") and parse(size or "0") <= parse(real):
        text = "field can not be less than status.capacity"
        return [forbidden("spec.resources.requests.storage", text)]
    return []
