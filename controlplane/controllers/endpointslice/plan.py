"""All slices of one address family of a Service: what is to be done about them (pure).

Source: Kubernetes 1.36, ``k8s.io/endpointslice``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from controlplane.controllers.serviceendpoints.pods import HEADLESS, IPV4, IPV6, is_headless
from controlplane.controllers.serviceendpoints.pods import may_be_endpoint as may_be
from controlplane.engine.ownership import reference_to
from controlplane.engine.resources import SERVICES, Object

from . import hints
from .endpoints import Port, PortsKey, endpoint_of, identity, ports_key, ports_of
from .packing import Changes, Endpoints, pack

MANAGER: Final = "endpointslice-controller.k8s.io"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME: Final = "kubernetes.io/service-name"
_RESERVED: Final = (SERVICE_NAME, MANAGED_BY, HEADLESS)

ZoneOf = Callable[[str], str | None]
"""Returns the zone of a node by its name; "": it is in none; None: there is no such node."""
AddHints = Callable[[Changes, list[Object]], None]
"""Sets the hints of slices; may add to those that change some of those that do not."""


def families_of(service: Object) -> list[str]:
    """Return the address families of a Service; each has slices of its own."""
    spec = service["spec"]
    found = [one for one in spec.get("ipFamilies") or () if one in (IPV4, IPV6)]
    if found:
        return found
    # From an API server that does not know families.
    address = spec.get("clusterIP") or "None"
    if address == "None":
        return [IPV4, IPV6]
    return [IPV6 if isinstance(ip_address(address), IPv6Address) else IPV4]


def is_owned(slice_: Object, service: Object) -> bool:
    """Whether a slice is of this very Service, not of an earlier one of its name."""
    return any(
        one["uid"] == service["metadata"]["uid"]
        and one["kind"] == "Service" and one["apiVersion"] == "v1"
        for one in slice_["metadata"].get("ownerReferences") or ()
    )  # fmt: skip


def labels_of(slice_: Object, service: Object) -> tuple[dict[str, str], bool]:
    """Return the labels that a slice shall have, and whether those of the Service changed."""
    has = _free(slice_)
    wanted = _free(service)
    changed = has != wanted
    labels = dict(wanted)
    if is_headless(service):
        labels[HEADLESS] = ""
    labels[SERVICE_NAME] = service["metadata"]["name"]
    labels[MANAGED_BY] = MANAGER
    return labels, changed


def _free(value: Object) -> dict[str, str]:
    labels = value["metadata"].get("labels") or {}
    return {name: text for name, text in labels.items() if name not in _RESERVED}


def new_slice(service: Object, family: str, ports: list[Port]) -> Object:
    """Return a slice of a Service without endpoints."""
    meta = service["metadata"]
    made: Object = {
        "metadata": {
            "namespace": meta["namespace"],
            "generateName": f"{meta['name']}-",
            "ownerReferences": [reference_to(service, SERVICES)],
        },
        "addressType": family,
        "endpoints": [],
        "ports": ports,
    }
    made["metadata"]["labels"] = labels_of(made, service)[0]
    return made


def plan(
    service: Object, pods: Iterable[Object], existing: list[Object], family: str, *,
    zone_of: ZoneOf, limit: int, add_hints: AddHints | None = None,
) -> Changes:  # fmt: skip
    """Return what is to be done about the slices of one family.

    Args:
        service: whose they are.
        pods: that it selects.
        existing: slices of the family that this controller made for a Service of this name.
        zone_of: knows nodes.
        limit: endpoints of a slice.
        add_hints: sets hints by the CPUs of zones, where the Service asks for that.
    """
    changes = Changes()
    by_ports: dict[PortsKey, list[Object]] = {}
    for one in existing:
        if is_owned(one, service):
            by_ports.setdefault(ports_key(one.get("ports")), []).append(one)
        else:
            changes.delete.append(one)
    wanted, ports = _wanted(service, pods, family, zone_of)
    for key, endpoints in wanted.items():
        changes.add(pack(
            by_ports.pop(key, []), endpoints, limit,
            empty=lambda key=key: new_slice(service, family, ports[key]),  # type: ignore[misc]
            labels=lambda one: labels_of(one, service),
        ))  # fmt: skip
    for unwanted in by_ports.values():
        changes.delete += unwanted
    _place_holder(service, existing, family, changes)
    _hint(service, existing, changes, add_hints)
    _reuse(service, changes)
    return changes


def _wanted(
    service: Object, pods: Iterable[Object], family: str, zone_of: ZoneOf
) -> tuple[dict[PortsKey, Endpoints], dict[PortsKey, list[Port]]]:
    """Return the endpoints that shall be, and their ports, by what tells ports apart."""
    wanted: dict[PortsKey, Endpoints] = {}
    ports: dict[PortsKey, list[Port]] = {}
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in pods:
        if not may_be(pod, terminating=True):
            continue
        has = ports_of(pod, service)
        key = ports_key(has)
        ports.setdefault(key, has)
        group = wanted.setdefault(key, {})
        zone = zone_of(pod["spec"].get("nodeName") or "")
        if zone is None and not published:
            # Its node is gone, and so is the pod, though it does not know.
            continue
        endpoint = endpoint_of(pod, zone or "", service, family)
        if endpoint is not None:
            group[identity(endpoint)] = endpoint
    return wanted, ports


def _place_holder(service: Object, existing: list[Object], family: str, changes: Changes) -> None:
    """Have one slice without endpoints if there would be none: the Service was looked at."""
    if len(existing) != len(changes.delete) or changes.create:
        return
    holder = new_slice(service, family, [])
    if len(changes.delete) == 1 and _is_like(changes.delete[0], holder):
        changes.delete.clear()
    else:
        changes.create.append(holder)


def _is_like(slice_: Object, holder: Object) -> bool:
    return (
        not slice_.get("endpoints")
        and not slice_.get("ports")
        and (slice_["metadata"].get("labels") or {}) == holder["metadata"]["labels"]
        and slice_["metadata"].get("ownerReferences") == holder["metadata"]["ownerReferences"]
    )


def _hint(
    service: Object, existing: list[Object], changes: Changes, add_hints: AddHints | None
) -> None:
    """Set the hints of all slices, also of those that need no other change."""
    touched = {one["metadata"]["name"] for one in [*changes.update, *changes.delete]}
    unchanged = [one for one in existing if one["metadata"]["name"] not in touched]
    if add_hints is not None and hints.is_topology_aware(service):
        add_hints(changes, unchanged)
        return
    wanted = hints.distribution(service)
    changes.update += [own_copy(one) for one in unchanged if hints.needs_hints(one, wanted)]
    for one in [*changes.create, *changes.update]:
        hints.set_hints(one, wanted)


def own_copy(slice_: Object) -> Object:
    """Return a copy of a slice whose endpoints may be given other hints."""
    endpoints = [dict(one) for one in slice_.get("endpoints") or ()]
    return {**slice_, "metadata": dict(slice_["metadata"]), "endpoints": endpoints}


def _reuse(service: Object, changes: Changes) -> None:
    """Replace a slice that would be deleted, rather than to delete it and make another one."""
    kept: list[Object] = []
    for one in changes.delete:
        if not changes.create or not is_owned(one, service):
            kept.append(one)
            continue
        made = changes.create.pop()
        changes.update.append({**made, "metadata": renamed(made["metadata"], one)})
    changes.delete = kept


def renamed(meta: dict[str, Any], existing: Object) -> dict[str, Any]:
    """Return the metadata of a new slice such that it replaces ``existing``."""
    names = ("name", "namespace", "uid", "resourceVersion", "generateName")
    has = existing["metadata"]
    return {**meta, **{name: has[name] for name in names if name in has}}
