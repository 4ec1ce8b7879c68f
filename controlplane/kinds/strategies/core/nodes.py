"""Node.

Source: Kubernetes documentation, "Nodes", "Taints and Tolerations"; API reference, Node v1.
"""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_value_problems
from controlplane.api.metadata import duplicate, forbidden, required, unsupported, wrong
from controlplane.api.resource import AGE, Column, Context, Object, Strategy
from controlplane.kinds.strategies.core.addresses import (
    check_network,
    network_warnings,
    parse_network,
)
from controlplane.kinds.strategies.podspec.resources import check_amount
from controlplane.kinds.strategies.podspec.scheduling import check_label_key

_EFFECTS: Final = ["NoSchedule", "PreferNoSchedule", "NoExecute"]
_ROLE: Final = "node-role.kubernetes.io/"
_FEATURE: Final = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z0-9]+)*", re.ASCII)
_INFO: Final = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
    "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip
_ONCE: Final = 'node updates may not change {} except from "" to valid'


class NodeStrategy(Strategy):
    """See the module."""

    generation = False
    selectable = frozenset({"spec.unschedulable"})
    columns = (
        Column("Status", description="Whether it takes pods."),
        Column("Roles", description="By its labels."),
        AGE,
        Column("Version", description="Of its kubelet."),
        Column("Internal-IP", priority=1, description="Its address in the cluster."),
        Column("External-IP", priority=1, description="Its address from outside."),
        Column("OS-Image", priority=1, description="Its distribution."),
        Column("Kernel-Version", priority=1, description="Its kernel."),
        Column("Container-Runtime", priority=1, description="What runs its containers."),
    )

    def default(self, value: Object) -> None:
        """Put in the defaults."""
        spec = value.setdefault("spec", {})
        one, all_of_them = spec.get("podCIDR", ""), spec.get("podCIDRs", [])
        if one and (not all_of_them or all_of_them[0] != one):
            spec["podCIDRs"] = [one]
        elif all_of_them:
            spec["podCIDR"] = all_of_them[0]
        for key in ("podCIDR", "podCIDRs", "taints", "unschedulable", "providerID"):
            if key in spec and not spec[key]:
                del spec[key]
        status = value.setdefault("status", {})
        if "capacity" in status and "allocatable" not in status:
            status["allocatable"] = dict(status["capacity"])
        endpoints = status.setdefault("daemonEndpoints", {})
        endpoints.setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
        info = status.setdefault("nodeInfo", {})
        for key in _INFO:
            info.setdefault(key, "")

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop what is of no effect any more."""
        value["spec"].pop("configSource", None)
        value["status"].pop("config", None)

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Likewise."""
        if "configSource" not in old.get("spec", {}):
            value["spec"].pop("configSource", None)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        causes = _check_cidrs(value["spec"].get("podCIDRs", []))
        if old is None:
            causes += _check_taints(value["spec"].get("taints", []))
            causes += _check_status(value["status"])
        else:
            causes += self.validate_status(value, old)
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with any change."""
        spec, before = value["spec"], old["spec"]
        causes = _check_taints(spec.get("taints", [])) + _check_status(value["status"])
        addresses = value["status"].get("addresses", [])
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                causes.append(duplicate(f"status.addresses[{index}]", address))
        if before.get("podCIDRs") and before["podCIDRs"] != spec.get("podCIDRs"):
            causes.append(forbidden("spec.podCIDRs", _ONCE.format("podCIDR")))
        if before.get("providerID") and before["providerID"] != spec.get("providerID"):
            causes.append(forbidden("spec.providerID", _ONCE.format("providerID")))
        if before.get("externalID", "") != spec.get("externalID", ""):
            causes.append(forbidden("spec.externalID", "may not be updated"))
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear."""
        spec, found = value["spec"], []
        if "configSource" in spec:
            found.append("spec.configSource: the feature is removed")
        if spec.get("externalID"):
            found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
        for index, network in enumerate(spec.get("podCIDRs", [])):
            found += network_warnings(network, f"spec.podCIDRs[{index}]")
        return found

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        closed = value.get("spec", {}).get("unschedulable", False)
        return {"spec.unschedulable": "true" if closed else "false"}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        status = value.get("status", {})
        info = status.get("nodeInfo", {})
        kernel = info.get("kernelVersion") or "<unknown>"
        if info.get("architecture"):
            kernel += f" ({info['architecture']})"
        return [
            _readiness(value),
            ",".join(_roles(value["metadata"].get("labels", {}))) or "<none>",
            info.get("kubeletVersion", ""),
            _address(status, "InternalIP"),
            _address(status, "ExternalIP"),
            info.get("osImage") or "<unknown>",
            kernel,
            info.get("containerRuntimeVersion") or "<unknown>",
        ]


def _readiness(value: Object) -> str:
    ready = [c for c in value.get("status", {}).get("conditions", []) if c.get("type") == "Ready"]
    found = "Unknown"
    if ready:
        found = "Ready" if ready[-1].get("status") == "True" else "NotReady"
    closed = value.get("spec", {}).get("unschedulable")
    return f"{found},SchedulingDisabled" if closed else found


def _roles(labels: dict[str, str]) -> list[str]:
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    return sorted((roles | {labels.get("kubernetes.io/role", "")}) - {""})


def _address(status: Object, kind: str) -> str:
    found = (a.get("address", "") for a in status.get("addresses", []) if a.get("type") == kind)
    return next(found, "<none>")


def _check_cidrs(networks: list[str]) -> list[Cause]:
    path = "spec.podCIDRs"
    causes: list[Cause] = []
    for index, network in enumerate(networks):
        causes += check_network(network, f"{path}[{index}]")
    parsed = [found[0].version for network in networks if (found := parse_network(network))]
    if len(networks) > 2 or len(set(parsed)) < len(parsed):
        text = "may specify no more than one CIDR for each IP family"
        causes.append(wrong(path, networks, text))
    return causes


def _check_taints(taints: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        # Kubernetes has it below metadata.
        path = f"metadata.taints[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        causes += check_label_key(key, f"{path}.key")
        problems = label_value_problems(taint.get("value", ""))
        if problems:
            causes.append(wrong(f"{path}.value", taint["value"], ";".join(problems)))
        if not effect:
            causes.append(required(f"{path}.effect"))
        elif effect not in _EFFECTS:
            causes.append(unsupported(f"{path}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            text = duplicate(path, taint).message
            text += ": taints must be unique by key and effect pair"
            causes.append(Cause("FieldValueDuplicate", text, path))
        seen.add((key, effect))
    return causes


def _check_status(status: Object) -> list[Cause]:
    causes: list[Cause] = []
    for key in ("capacity", "allocatable"):
        for name, amount in status.get(key, {}).items():
            causes += check_amount(name, amount, f"status.{key}.{name}")
    path, features = "status.declaredFeatures", status.get("declaredFeatures", [])
    for index, feature in enumerate(features):
        if len(feature) > 253 or not _FEATURE.fullmatch(feature):
            causes.append(wrong(f"{path}[{index}]", feature, f'invalid feature name "{feature}"'))
        if index and features[index - 1] == feature:
            causes.append(duplicate(f"{path}[{index}]", feature))
        elif index and features[index - 1] > feature:
            text = "list must be sorted alphabetically"
            causes.append(wrong(f"{path}[{index}]", feature, text))
    return causes
