"""apps/v1 ReplicaSet and v1 ReplicationController."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from controlplane.api.errors import Cause
from controlplane.api.metadata import required, wrong
from controlplane.api.resource import Column, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import check_immutable, check_not_negative
from controlplane.kinds.strategies.apps.counts import check_counts
from controlplane.kinds.strategies.base import WithStatus, warn_of_name
from controlplane.kinds.strategies.templates import (
    check_lasting_template,
    check_required_selector,
    check_selected,
    default_template,
    warn_of_template,
)

_COLUMNS = (
    Column("Desired", "integer", description="How many pods are wanted."),
    Column("Current", "integer", description="How many pods there are."),
    Column("Ready", "integer", description="How many pods are ready."),
    *cells.CONTAINERS,
    cells.SELECTOR,
)
_BOUNDED = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")


class _Replicating(WithStatus):
    columns = _COLUMNS
    initial: ClassVar[Mapping[str, Any]] = {"replicas": 0}

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the counts."""
        numbers = ("replicas", *_BOUNDED, "observedGeneration", "terminatingReplicas")
        return check_counts(value, old, numbers=numbers, bounded=_BOUNDED)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the name and the template."""
        template = value["spec"].get("template", {})
        return warn_of_name(value) + warn_of_template(template, "spec.template")

    def _cells(self, value: Object, selector: str) -> list[Any]:
        spec, status = value["spec"], value.get("status", {})
        return [
            spec.get("replicas", 0),
            status.get("replicas", 0),
            status.get("readyReplicas", 0),
            *cells.containers(spec.get("template", {}).get("spec")),
            selector,
        ]


class ReplicaSet(_Replicating):
    """ReplicaSets."""

    def default(self, value: Object) -> None:
        """Put in replicas and the template's defaults."""
        super().default(value)
        value["spec"].setdefault("replicas", 1)
        default_template(value["spec"])

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        causes = check_not_negative(spec, "spec", "replicas", "minReadySeconds")
        causes += check_required_selector(spec, "spec", "replica set")
        causes += check_selected(spec, "spec")
        causes += check_lasting_template(spec["template"], "spec.template", "ReplicaSet")
        if old is not None:
            before = old["spec"].get("selector")
            causes += check_immutable(spec.get("selector"), before, "spec.selector")
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return self._cells(value, cells.selector(value["spec"].get("selector")) or cells.NONE)


class ReplicationController(_Replicating):
    """ReplicationControllers: their selector is labels, by default those of the template."""

    propagation = "Orphan"
    selectable = frozenset({"status.replicas"})

    def fields(self, value: Object) -> dict[str, str]:
        """Return how many pods there are."""
        return {"status.replicas": str(value.get("status", {}).get("replicas", 0))}

    def default(self, value: Object) -> None:
        """Put in replicas, selector and labels of the template, and its defaults."""
        super().default(value)
        spec = value["spec"]
        spec.setdefault("replicas", 1)
        if "template" not in spec:
            return
        found = default_template(spec)["metadata"].get("labels")
        if found:
            if not spec.get("selector"):
                spec["selector"] = dict(found)
            if not value["metadata"].get("labels"):
                value["metadata"]["labels"] = dict(found)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        selector, template = spec.get("selector", {}), spec.get("template")
        causes = check_not_negative(spec, "spec", "minReadySeconds")
        causes += [] if selector else [required("spec.selector")]
        causes += check_not_negative(spec, "spec", "replicas")
        if template is None:
            return [*causes, required("spec.template")]
        found = template["metadata"].get("labels", {})
        if selector and not selector.items() <= found.items():
            text = "`selector` does not match template `labels`"
            causes.append(wrong("spec.template.metadata.labels", found, text))
        return causes + check_lasting_template(template, "spec.template", "ReplicationController")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return self._cells(value, cells.labels(value["spec"].get("selector")))
