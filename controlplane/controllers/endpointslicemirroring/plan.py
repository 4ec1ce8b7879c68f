"""Slices that say what Endpoints say (pure).

There is one slice for each subset and address family. Source: Kubernetes 1.36, controller
``endpointslice-mirroring-controller``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.controllers.endpointslice.endpoints import (
    Endpoint,
    Port,
    PortsKey,
    identity,
    is_same,
    ports_key,
)
from controlplane.controllers.endpointslice.packing import Changes, Endpoints
from controlplane.controllers.endpointslice.plan import MANAGED_BY, SERVICE_NAME, renamed
from controlplane.controllers.serviceendpoints.pods import IPV4, IPV6, TRIGGER_TIME, canonical
from controlplane.controllers.serviceendpoints.subsets import Address, repack
from controlplane.engine.ownership import reference_to
from controlplane.engine.resources import ENDPOINTS, Object

MANAGER: Final = "endpointslicemirroring-controller.k8s.io"
LIMIT: Final = 1000
"""Addresses of a subset that are mirrored at most."""
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_Group = tuple[str, PortsKey]


@dataclass(slots=True)
class Plan:
    """What is to be done.

    Attributes:
        changes: of slices.
        invalid: addresses that are none.
        skipped: addresses that are not mirrored, the invalid ones included.
    """

    changes: Changes = field(default_factory=Changes)
    invalid: int = 0
    skipped: int = 0


def plan(endpoints: Object, existing: list[Object], limit: int = LIMIT) -> Plan:
    """Return what is to be done so that slices say what ``endpoints`` say.

    Args:
        existing: slices that mirror Endpoints of this name.
        limit: of addresses of one subset.
    """
    made = Plan()
    wanted: dict[_Group, Endpoints] = {}
    ports: dict[_Group, list[Port]] = {}
    for subset in repack(endpoints.get("subsets") or ()):
        _take(subset, limit, made, wanted, ports)
    by_group: dict[_Group, list[Object]] = {}
    for one in existing:
        key = (one["addressType"], ports_key(one.get("ports")))
        by_group.setdefault(key, []).append(one)
    for key, group in wanted.items():
        there = by_group.pop(key, [])
        made.changes.delete += there[1:]
        if there and _is_right(there[0], endpoints, group):
            continue
        slice_ = _slice(endpoints, key[0], ports[key], list(group.values())[:limit])
        if there:
            slice_["metadata"] = renamed(slice_["metadata"], there[0])
            made.changes.update.append(slice_)
        else:
            made.changes.create.append(slice_)
    for unwanted in by_group.values():
        made.changes.delete += unwanted
    _reuse(made.changes)
    return made


def _take(
    subset: dict[str, Any], limit: int, made: Plan,
    wanted: dict[_Group, Endpoints], ports: dict[_Group, list[Port]],
) -> None:  # fmt: skip
    """Put the addresses of a subset to the slices in which they shall be."""
    has = [_port(one) for one in subset.get("ports") or ()]
    states = [(one, True) for one in subset.get("addresses") or ()]
    states += [(one, False) for one in subset.get("notReadyAddresses") or ()]
    taken = 0
    for address, ready in states:
        if taken >= limit:
            break
        found = canonical(address["ip"])
        if found is None:
            made.invalid += 1
            continue
        key = (found[0], ports_key(has))
        ports.setdefault(key, has)
        endpoint = _endpoint(address, found[1], ready=ready)
        wanted.setdefault(key, {})[identity(endpoint)] = endpoint
        taken += 1
    made.skipped += len(states) - taken


def _port(port: Port) -> Port:
    made = {"name": port.get("name") or "", "port": port["port"],
            "protocol": port.get("protocol") or "TCP"}  # fmt: skip
    if port.get("appProtocol") is not None:
        made["appProtocol"] = port["appProtocol"]
    return made


def _endpoint(address: Address, text: str, *, ready: bool) -> Endpoint:
    made: Endpoint = {"addresses": [text], "conditions": {"ready": ready}}
    for name in ("targetRef", "nodeName", "hostname"):
        if address.get(name):
            made[name] = address[name]
    return made


def _is_right(slice_: Object, endpoints: Object, wanted: Endpoints) -> bool:
    has = slice_.get("endpoints") or ()
    meta, own = endpoints["metadata"], slice_["metadata"]
    labels = _without(own.get("labels"), MANAGED_BY, SERVICE_NAME)
    if len(has) != len(wanted) or labels != (meta.get("labels") or {}):
        return False
    if _without(meta.get("annotations"), TRIGGER_TIME, _APPLIED) != (own.get("annotations") or {}):
        return False
    if any(one["uid"] != meta["uid"] for one in own.get("ownerReferences") or ()):
        return False
    pairs = [(one, wanted.get(identity(one))) for one in has]
    return all(found is not None and is_same(found, one) for one, found in pairs)


def _slice(endpoints: Object, family: str, ports: list[Port], found: list[Endpoint]) -> Object:
    meta = endpoints["metadata"]
    return {
        "metadata": {
            "namespace": meta["namespace"],
            "generateName": f"{meta['name']}-",
            "labels": {
                **(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER,
            },
            "annotations": _without(meta.get("annotations"), TRIGGER_TIME, _APPLIED),
            "ownerReferences": [reference_to(endpoints, ENDPOINTS)],
        },
        "addressType": family,
        "endpoints": found,
        "ports": ports,
    }  # fmt: skip


def _reuse(changes: Changes) -> None:
    """Replace slices that would be deleted by those that would be made, of the same family."""
    for family in (IPV4, IPV6):
        made = [one for one in changes.create if one["addressType"] == family]
        gone = [one for one in changes.delete if one["addressType"] == family]
        for new, old in zip(made, gone, strict=False):
            changes.create.remove(new)
            changes.delete.remove(old)
            changes.update.append({**new, "metadata": renamed(new["metadata"], old)})


def _without(texts: dict[str, str] | None, *names: str) -> dict[str, str]:
    return {name: text for name, text in (texts or {}).items() if name not in names}
