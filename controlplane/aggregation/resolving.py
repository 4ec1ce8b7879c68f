"""From an APIService to an endpoint of its Service (pure).

Source: Kubernetes documentation, "Configure the Aggregation Layer"; reasons and messages are those
of kube-apiserver with ``--enable-aggregator-routing``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.api.resource import Object

Slices = list[Object]
_ROUTABLE: Final = ("ClusterIP", "LoadBalancer", "NodePort")


class ResolveError(Exception):
    """A Service leads nowhere; the text says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens."""

    address: str
    port: int


def resolve(
    service: Object | None,
    slices: Slices,
    name: str,
    port: int,
    choose: Callable[[int], int] = random.randrange,
) -> Endpoint:
    """Return a ready endpoint of a Service.

    Args:
        service: None: there is none.
        slices: of it.
        name: of it, for errors.
        port: number of a port of the Service.
        choose: returns a number below the one that it is given.

    Raises:
        ResolveError: there is no such endpoint.
    """
    if service is None:
        raise ResolveError(f'service "{name}" not found')
    spec = service["spec"]
    if spec.get("type", "ClusterIP") not in _ROUTABLE:
        raise ResolveError(f'unsupported service type "{spec["type"]}"')
    found = [one for one in spec.get("ports") or () if one["port"] == port]
    if not found:
        raise ResolveError(f'no service port {port} found for service "{name}"')
    families = spec.get("ipFamilies") or [""]
    # Those of the primary family first.
    ordered = sorted(slices, key=lambda one: one.get("addressType") != families[0])
    for each in ordered:
        for one in each.get("ports") or ():
            if one.get("name", "") != found[0].get("name", "") or one.get("port") is None:
                continue
            ready = [endpoint for endpoint in each.get("endpoints") or () if is_ready(endpoint)]
            if ready:
                chosen = ready[choose(len(ready))]
                return Endpoint(chosen["addresses"][0], one["port"])
    raise ResolveError(f'no endpoints available for service "{name}"')


def is_ready(endpoint: Object) -> bool:
    """Whether an endpoint takes requests; not to say so is to be ready."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def obstacle(spec: Object, service: Object | None, slices: Slices) -> tuple[str, str] | None:
    """Return reason and message of what keeps an APIService from being asked; None: nothing.

    Args:
        spec: of the APIService, with a service.
        service: that it names; None: there is none.
        slices: of it.
    """
    wanted: dict[str, Any] = spec["service"]
    name, namespace, port = wanted["name"], wanted["namespace"], wanted["port"]
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return "ServiceNotFound", f"{where} is not present"
    if service["spec"].get("type", "ClusterIP") != "ClusterIP":
        return None
    ports = [one for one in service["spec"].get("ports") or () if one["port"] == port]
    if not ports:
        return "ServicePortError", f"{where} is not listening on port {port}"
    if not slices:
        return "EndpointsNotFound", f"cannot find endpointslices for {where}"
    port_name = ports[0].get("name", "")
    for each in slices:
        named = any(
            one.get("name", "") == port_name and one.get("port") is not None
            for one in each.get("ports") or ()
        )
        if named and any(is_ready(one) for one in each.get("endpoints") or ()):
            return None
    text = f'endpointslices for {where} have no addresses with port name "{port_name}"'
    return "MissingEndpoints", text
