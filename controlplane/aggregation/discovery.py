"""What there is, ours and that of extension servers, in one answer (pure).

Source: Kubernetes documentation, "API Discovery"; the order is that of kube-apiserver: groups by
their priority, versions of a group by theirs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.aggregation.priorities import priority_of
from controlplane.api.resource import Object
from controlplane.kinds.catalog import Catalog
from controlplane.server import discovery

FIRST: Final = "apiregistration.k8s.io"
_VERSION: Final = re.compile(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?", re.ASCII)
_STAGES: Final = {None: 2, "beta": 1, "alpha": 0}


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a group.

    Attributes:
        group, version: its name.
        priority: of the group; the highest of its versions counts.
        version_priority: in the group.
        remote: another server serves it.
    """

    group: str
    version: str
    priority: int
    version_priority: int
    remote: bool = False


def entries(catalog: Catalog, services: Iterable[Object]) -> dict[str, list[Entry]]:
    """Return versions by their groups, in the order of discovery, without the core group.

    Args:
        catalog: of what this server serves.
        services: all APIServices.
    """
    found: dict[tuple[str, str], Entry] = {}
    for group in catalog.groups():
        for version in catalog.versions(group):
            found[group, version] = Entry(group, version, *priority_of(group, version))
    for one in services:
        spec = one["spec"]
        group, version = spec.get("group", ""), spec.get("version", "")
        if group and spec.get("service"):
            found[group, version] = Entry(
                group, version, spec["groupPriorityMinimum"], spec["versionPriority"], True
            )
    listed = sorted(found.values(), key=_group_order)
    by_group: dict[str, list[Entry]] = {}
    for entry in listed:
        by_group.setdefault(entry.group, []).append(entry)
    for versions in by_group.values():
        versions.sort(key=_version_order)
    return by_group


def group_list(by_group: Mapping[str, list[Entry]]) -> dict[str, Any]:
    """Return ``/apis``."""
    groups = [_group(versions) for versions in by_group.values()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def one_group(versions: list[Entry]) -> dict[str, Any]:
    """Return ``/apis/GROUP``."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(versions)}


def aggregated(
    catalog: Catalog,
    by_group: Mapping[str, list[Entry]],
    known: Mapping[tuple[str, str], tuple[bool, list[Object]]],
) -> dict[str, Any]:
    """Return ``/apis`` with all resources.

    Args:
        catalog: of what this server serves.
        by_group: what there is.
        known: of each version of an extension server: whether it answers now, and its resources.
    """
    answer = discovery.aggregated(catalog, list(catalog.groups()))
    local = {
        (item["metadata"]["name"], version["version"]): version
        for item in answer["items"]
        for version in item["versions"]
    }
    items = []
    for group, versions in by_group.items():
        told = []
        for entry in versions:
            if not entry.remote:
                told.append(local[group, entry.version])
                continue
            current, resources = known.get((group, entry.version), (False, []))
            told.append({"version": entry.version, "resources": resources,
                         "freshness": "Current" if current else "Stale"})  # fmt: skip
        items.append({"metadata": {"name": group}, "versions": told})
    return {**answer, "items": items}


def resources_of(document: Any, group: str, version: str) -> list[Object]:
    """Return the resources of an APIResourceList as an aggregated answer tells them.

    Args:
        document: as an extension server sent it; what is malformed in it is left out.
        group, version: that it is of.
    """
    found: dict[str, Object] = {}
    listed = document.get("resources") if isinstance(document, dict) else None
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not one["name"]:
            continue
        kind = {
            "group": _text(one.get("group")) or group,
            "version": _text(one.get("version")) or version,
            "kind": _text(one.get("kind")),
        }
        scope = "Namespaced" if one.get("namespaced") is True else "Cluster"
        verbs = _texts(one.get("verbs"))
        name, _, below = one["name"].partition("/")
        if below:
            # A subresource may be all that there is of a resource.
            empty = {"group": "", "version": "", "kind": ""}
            parent = found.setdefault(
                name, {"resource": name, "responseKind": empty, "scope": scope, "verbs": []}
            )
            told = {"subresource": below, "responseKind": kind, "verbs": verbs}
            parent.setdefault("subresources", []).append(told)
            continue
        before = found.get(name, {})
        entry = {"resource": name, "responseKind": kind, "scope": scope, "verbs": verbs}
        if _text(one.get("singularName")):
            entry["singularResource"] = one["singularName"]
        for key in ("shortNames", "categories"):
            if _texts(one.get(key)):
                entry[key] = _texts(one.get(key))
        if "subresources" in before:
            entry["subresources"] = before["subresources"]
        found[name] = entry
    return list(found.values())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _group(versions: list[Entry]) -> dict[str, Any]:
    listed = [
        {"groupVersion": f"{one.group}/{one.version}", "version": one.version} for one in versions
    ]
    return {"name": versions[0].group, "versions": listed, "preferredVersion": listed[0]}


def _group_order(entry: Entry) -> tuple[bool, int, str]:
    return entry.group != FIRST, -entry.priority, f"{entry.version}.{entry.group}"


def _version_order(entry: Entry) -> tuple[int, Any]:
    return -entry.version_priority, _newest_first(entry.version)


@functools.cache
def _newest_first(version: str) -> Any:
    """Order versions: v2, v1, v1beta1, v1alpha1, then all others by name."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (1, 0, 0, 0, version)
    return (0, -_STAGES[found[2]], -int(found[1]), -int(found[3] or 0), "")
