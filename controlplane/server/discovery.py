"""What there is: groups, versions and resources, one by one or all in one answer.

Source: Kubernetes documentation, "API Discovery" (aggregated: KEP-3352).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

from controlplane.api.resource import Resource
from controlplane.kinds.catalog import Catalog

AGGREGATED: Final = "APIGroupDiscoveryList"


def core_versions(address: str) -> dict[str, Any]:
    """Return the versions of the core group (``/api``)."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(catalog: Catalog) -> dict[str, Any]:
    """Return the other groups (``/apis``)."""
    groups = [_group(catalog, group) for group in catalog.groups()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def one_group(catalog: Catalog, group: str) -> dict[str, Any] | None:
    """Return one group (``/apis/<group>``), None if it is not there."""
    if group not in catalog.groups():
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(catalog, group)}


def resource_list(catalog: Catalog, group: str, version: str) -> dict[str, Any] | None:
    """Return the resources of a version, None if it is not there."""
    found = catalog.served(group, version)
    if not found:
        return None
    entries: list[dict[str, Any]] = []
    for resource in found:
        entries.append(
            _without_empty(
                {
                    "name": resource.plural,
                    "singularName": resource.singular,
                    "namespaced": resource.namespaced,
                    "kind": resource.kind,
                    "verbs": list(resource.verbs),
                    "shortNames": list(resource.short_names),
                    "categories": list(resource.categories),
                    "storageVersionHash": _storage_hash(resource) if resource.kept else None,
                }
            )
        )
        entries += [
            {"name": f"{resource.plural}/{name}", "singularName": "", **facts,
             "namespaced": resource.namespaced}
            for name, facts in resource.subresources.items()
        ]  # fmt: skip
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": entries,
    }


def aggregated(catalog: Catalog, groups: list[str]) -> dict[str, Any]:
    """Return all versions of ``groups`` with their resources, in one answer."""
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": [_aggregated(r) for r in catalog.served(group, version)],
                }
                for version in catalog.versions(group)
            ],
        }
        for group in groups
    ]
    return {
        "kind": AGGREGATED,
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _group(catalog: Catalog, group: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for version in catalog.versions(group)
    ]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _aggregated(resource: Resource) -> dict[str, Any]:
    below = [
        {
            "subresource": name,
            "responseKind": {
                "group": facts.get("group", resource.group),
                "version": facts.get("version", resource.version),
                "kind": facts["kind"],
            },
            "verbs": facts["verbs"],
        }
        for name, facts in resource.subresources.items()
    ]
    return _without_empty(
        {
            "resource": resource.plural,
            "responseKind": {
                "group": resource.group, "version": resource.version, "kind": resource.kind,
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
            "shortNames": list(resource.short_names),
            "categories": list(resource.categories),
            "subresources": below,
        }
    )  # fmt: skip


def _storage_hash(resource: Resource) -> str:
    """Return what tells clients that objects are kept in another version than before."""
    version = resource.strategy.storage_version or resource.version
    text = f"{resource.group}/{version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def _without_empty(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value not in ([], None)}
