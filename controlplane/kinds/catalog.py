"""Every kind that is served, from the tables and from what is special about some."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from controlplane.api.resource import Resource, Strategy
from controlplane.kinds.types import Types

# The order in which discovery lists groups, and the version of a group that clients prefer.
_PREFERRED: Final = {"autoscaling": "v2"}


class Catalog:
    """The resources by group, version and plural name.

    Args:
        resources: all of them; more may come and go by :meth:`add` and :meth:`remove`.

    Attributes:
        revision: grows when one comes or goes.
    """

    def __init__(self, resources: list[Resource]) -> None:
        self.revision = 0
        self._resources: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve one more, or another one under its name."""
        self._resources[resource.group, resource.version, resource.plural] = resource
        self.revision += 1

    def remove(self, group: str, version: str, plural: str) -> None:
        """Serve it no longer."""
        self._resources.pop((group, version, plural), None)
        self.revision += 1

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return a resource, None if it is not served."""
        return self._resources.get((group, version, plural))

    def of_kind(self, group: str, kind: str) -> Resource | None:
        """Return the resource of a kind in the version that clients prefer."""
        found = [r for r in self._resources.values() if (r.group, r.kind) == (group, kind)]
        preferred = self.versions(group)
        return min(found, key=lambda r: preferred.index(r.version)) if found else None

    def serving(self, group: str, version: str, kind: str) -> Resource | None:
        """Return the resource of a kind in one version; None if that keeps no objects."""
        found = (r for r in self.served(group, version) if r.kind == kind and r.kept)
        return next(found, None)

    def of_key(self, key: str) -> Resource | None:
        """Return the resource of an object in the store, in the version that clients prefer."""
        _, group, plural, *_ = f"{key}//".split("/")
        group = "" if group == "core" else group
        found = (self.find(group, version, plural) for version in self.versions(group))
        return next((resource for resource in found if resource is not None), None)

    def all(self) -> list[Resource]:
        """Return all, each version of a kind."""
        return list(self._resources.values())

    def groups(self) -> list[str]:
        """Return the groups, without the core group."""
        return list(dict.fromkeys(r.group for r in self._resources.values() if r.group))

    def versions(self, group: str) -> list[str]:
        """Return the versions of a group, the preferred one first."""
        found = list(dict.fromkeys(r.version for r in self._resources.values() if r.group == group))
        preferred = _PREFERRED.get(group)
        return sorted(found, key=lambda version: (version != preferred, _newness(version)))

    def served(self, group: str, version: str) -> list[Resource]:
        """Return the resources of a version, in the order of their names."""
        found = [r for r in self._resources.values() if (r.group, r.version) == (group, version)]
        return sorted(found, key=lambda r: r.plural)


def builtin_resources(types: Types, strategies: Mapping[str, Strategy]) -> list[Resource]:
    """Return the built-in kinds.

    Args:
        types: of their fields.
        strategies: what is special, by ``group/plural`` (``/pods``, ``apps/deployments``), or by
            ``group/version/plural`` where that matters.
    """
    table = json.loads((Path(__file__).parent / "resources.json").read_bytes())
    return [
        _resource(group_version, plural, entries, types, strategies)
        for group_version, entries in table.items()
        for plural, facts in entries.items()
        if "/" not in plural
    ]


def _resource(
    group_version: str,
    plural: str,
    entries: dict[str, Any],
    types: Types,
    strategies: Mapping[str, Strategy],
) -> Resource:
    group, _, version = group_version.rpartition("/")
    facts = entries[plural]
    below = {
        name.partition("/")[2]: entry
        for name, entry in entries.items()
        if name.startswith(f"{plural}/")
    }
    return Resource(
        group=group,
        version=version,
        plural=plural,
        singular=facts.get("singularName", facts["kind"].lower()),
        kind=facts["kind"],
        namespaced=facts.get("namespaced", False),
        type_name=types.of_kind(group_version, facts["kind"]),
        strategy=strategies.get(f"{group_version}/{plural}")
        or strategies.get(f"{group}/{plural}", Strategy()),
        short_names=tuple(facts.get("shortNames", ())),
        categories=tuple(facts.get("categories", ())),
        verbs=tuple(facts["verbs"]),
        subresources=below,
        kept="list" in facts["verbs"],
    )


def _newness(version: str) -> tuple[int, ...]:
    """Order versions as Kubernetes does: v2, v1, v2beta1, v1beta2, v1alpha1."""
    major, stage, minor = version.removeprefix("v"), 0, "0"
    for number, name in ((1, "beta"), (2, "alpha")):
        if name in major:
            major, _, minor = major.partition(name)
            stage = number
    digits = [int(part) if part.isdecimal() else 0 for part in (major, minor)]
    return (stage, -digits[0], -digits[1])
