"""The Node object: as it is created, and how one that exists is brought up to date (pure)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kubeletpy.settings import Settings

from .status import NodeKnowledge

HOSTNAME = "kubernetes.io/hostname"
ATTACH = "volumes.kubernetes.io/controller-managed-attach-detach"
PROVIDED_IP = "alpha.kubernetes.io/provided-node-ip"
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
_REFRESHED = (
    HOSTNAME,
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
)
"""Labels that are set anew on a node that exists; others of --node-labels stay as they are."""

Object = dict[str, Any]


def labels(known: NodeKnowledge) -> dict[str, str]:
    """Return the labels of the node."""
    architecture = known.machine.architecture
    return {
        HOSTNAME: known.hostname,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        **dict(known.settings.node_labels),
    }


def notes_of(known: NodeKnowledge) -> dict[str, str]:
    """Return the annotations that are the kubelet's."""
    found = {}
    if known.settings.configuration.enable_controller_attach_detach:
        found[ATTACH] = "true"
    if known.settings.cloud_provider and known.settings.node_ips:
        found[PROVIDED_IP] = ",".join(known.settings.node_ips)
    return found


def new_node(known: NodeKnowledge, status: Mapping[str, Any]) -> Object:
    """Return the object to create."""
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": known.name, "labels": labels(known)},
        "spec": _spec(known.settings),
        "status": dict(status),
    }
    if told := notes_of(known):
        node["metadata"]["annotations"] = told
    return node


def _spec(settings: Settings) -> Object:
    spec: Object = {}
    taints: list[Object] = []
    for taint in settings.configuration.register_with_taints:
        told = {"key": taint.key, "effect": taint.effect}
        taints.append(told | ({"value": taint.value} if taint.value else {}))
    if settings.cloud_provider:
        taints.append({"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"})
    if taints:
        spec["taints"] = taints
    if settings.configuration.provider_id:
        spec["providerID"] = settings.configuration.provider_id
    return spec


def metadata_patch(known: NodeKnowledge, node: Mapping[str, Any]) -> Object:
    """Return the merge patch that brings labels and annotations of a node up to date, or {}."""
    metadata = node.get("metadata") or {}
    has, wanted = metadata.get("labels") or {}, labels(known)
    changes = {
        name: wanted[name]
        for name in _REFRESHED
        if name in wanted and has.get(name) != wanted[name]
    }
    told, ours = metadata.get("annotations") or {}, notes_of(known)
    notes: Object = {}
    for name in (ATTACH, PROVIDED_IP):
        if told.get(name) != ours.get(name):
            notes[name] = ours.get(name)
    patch: Object = {}
    if changes:
        patch["labels"] = changes
    if notes:
        patch["annotations"] = notes
    return {"metadata": patch} if patch else {}


def without_extended(status: Mapping[str, Any]) -> Object:
    """Return a status whose extended resources are zero: after a boot no plug-in is there yet."""
    result = copy.deepcopy(dict(status))
    for part in ("capacity", "allocatable"):
        amounts = result.get(part)
        if isinstance(amounts, dict):
            extended = [name for name in amounts if "/" in name]
            amounts |= dict.fromkeys(extended, "0")
    return result


def status_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    """Return the strategic merge patch from one status to another, heart-beats included."""
    patch = _difference(before, after)
    if after.get("conditions"):
        patch["conditions"] = after["conditions"]
    if before.get("addresses") != after.get("addresses"):
        # Merged by their type, of which two addresses may be: the list is put in as a whole.
        patch["addresses"] = [*(after.get("addresses") or ()), {"$patch": "replace"}]
    else:
        patch.pop("addresses", None)
    return {"status": patch}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    patch: Object = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            patch[name] = _difference(old, new)
        else:
            patch[name] = new
    return patch
