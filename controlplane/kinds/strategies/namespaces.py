"""v1 Namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong
from controlplane.api.resource import Column, Context, Object, Strategy
from controlplane.api.selectors import LABEL_KEY

FINALIZER: Final = "kubernetes"
_NAME_LABEL: Final = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy):
    """A namespace has a finalizer in its spec, which goes when it is empty.

    Source: Kubernetes documentation, "Namespaces", "Automatic labelling".
    """

    columns = (Column("Status", description="The status of the namespace"),)
    generation = False
    names = "label"
    selectable = frozenset({"status.phase", "name"})

    def default(self, value: Object) -> None:
        """Label it with its name."""
        meta = value["metadata"]
        if meta.get("name"):
            meta["labels"] = {**meta.get("labels", {}), _NAME_LABEL: meta["name"]}

    def prepare_create(self, value: Object, context: Context) -> None:
        """Make it active, and not to go before it is empty."""
        finalizers = value.get("spec", {}).get("finalizers", [])
        if FINALIZER not in finalizers:
            finalizers = [*finalizers, FINALIZER]
        value["spec"] = {"finalizers": finalizers}
        value["status"] = {"phase": "Active"}

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Keep the finalizers, which the subresource ``finalize`` changes alone."""
        if context.subresource != "finalize":
            value["spec"] = old.get("spec", {})

    def prepare_delete(self, value: Object, context: Context) -> None:
        """Say that it is on its way out."""
        value["status"] = {**value.get("status", {}), "phase": "Terminating"}

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check the finalizers."""
        text = "name is neither a standard finalizer name nor is it fully qualified"
        causes: list[Cause] = []
        for index, name in enumerate(value.get("spec", {}).get("finalizers", [])):
            if name != FINALIZER and ("/" not in name or not LABEL_KEY.fullmatch(name)):
                # Kubernetes says which one only where they are changed.
                path = "spec.finalizers" if old is None else f"spec.finalizers[{index}]"
                causes.append(wrong(path, name, text))
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Check that the phase is that of the deletion."""
        phase = value.get("status", {}).get("phase", "")
        deleted = bool(value["metadata"].get("deletionTimestamp"))
        wanted = "Terminating" if deleted else "Active"
        if phase == wanted:
            return []
        empty = "not empty" if deleted else "empty"
        text = f"may only be '{wanted}' if `deletionTimestamp` is {empty}"
        return [wrong("status.Phase", phase, text)]

    def fields(self, value: Object) -> dict[str, str]:
        """Return the phase, and the name once more, as Kubernetes does."""
        phase = value.get("status", {}).get("phase", "")
        return {"status.phase": phase, "name": value["metadata"]["name"]}

    def row(self, value: Object) -> list[Any]:
        """Return the phase."""
        return [value.get("status", {}).get("phase", "")]


NAMESPACES: Final[Mapping[str, Strategy]] = {"/namespaces": NamespaceStrategy()}
"""What is special about namespaces."""
