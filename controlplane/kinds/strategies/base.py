"""What strategies of kinds with a status have in common."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from controlplane.api.metadata import is_dns_label
from controlplane.api.resource import Context, Object, Strategy


class WithStatus(Strategy):
    """A kind whose status only the subresource writes.

    Attributes:
        initial: of its status: what is always there (Go's zero values that JSON does not omit).
    """

    initial: ClassVar[Mapping[str, Any]] = {}

    def default(self, value: Object) -> None:
        """Put in what a status never lacks."""
        value.setdefault("spec", {})
        status = value.setdefault("status", {})
        for key, item in self.initial.items():
            status.setdefault(key, copy.deepcopy(item))

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop the status that a client sends."""
        value["status"] = copy.deepcopy(dict(self.initial))


class Plain(Strategy):
    """A kind without status and without generations."""

    has_status = False
    generation = False


def warn_of_name(value: Object) -> list[str]:
    """Return a warning about a name of which hosts cannot be called."""
    meta = value["metadata"]
    if meta.get("generation", 1) != 1 or is_dns_label(meta.get("name", "")):
        return []
    return [
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising "
        "behavior; a DNS label is recommended: at most 63 of a-z, 0-9 and '-' inside"
    ]
