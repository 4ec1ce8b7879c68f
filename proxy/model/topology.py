"""Which endpoints of a port this node uses (pure).

Source: KEP-2433 (hints), 3015 (PreferSameZone, PreferSameNode), 1669 (serving terminating
endpoints), 2086 (internalTrafficPolicy).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from .portal import Endpoint, Portal, Protocol
from .slices import Place

Places = Mapping[tuple[str, int], Place]


class Preference(enum.Enum):
    """Whose hints count at this node for a port."""

    NONE = ""
    SAME_ZONE = "PreferSameZone"
    SAME_NODE = "PreferSameNode"


def preference(places: Iterable[Place], zone: str) -> Preference:
    """Return whether hints are followed.

    They are only where every ready endpoint has one and at least one is meant for this node (or
    its zone): else a node would be left without endpoints, or all of its zone's traffic would go
    to the few that have hints already.
    """
    node, zones = True, True
    for_node, for_zone = False, False
    any_ready = False
    for each in places:
        if not each.ready:
            continue
        any_ready = True
        node &= each.for_this_node is not None
        zones &= each.zones is not None
        for_node |= each.for_this_node is True
        for_zone |= each.zones is not None and zone in each.zones
    if not any_ready:
        return Preference.NONE
    if node and for_node:
        return Preference.SAME_NODE
    return Preference.SAME_ZONE if zones and for_zone and zone else Preference.NONE


def choose(portal: Portal, places: Places, zone: str) -> Portal:
    """Return the portal with the endpoints that this node is to use for it.

    Args:
        portal: without endpoints.
        places: all its endpoints, by address and port.
        zone: of this node, "" if unknown.
    """
    if not places:
        return portal
    local_wanted = portal.internal_local or (portal.external_local and portal.is_external)
    # Even with both policies Local, what comes from pods of this node to external addresses goes
    # to all endpoints.
    cluster_wanted = not portal.internal_local or portal.is_external
    cluster = _cluster(places, zone) if cluster_wanted else ()
    local = _local(places) if local_wanted else ()
    usable = any(each.ready or each.fallback for each in places.values())
    serving: tuple[Endpoint, ...] = ()
    if portal.protocol is not Protocol.TCP:
        serving = _endpoints(
            [key for key, each in places.items() if each.ready or each.serving], places
        )
    return dataclasses.replace(
        portal,
        cluster_endpoints=cluster,
        local_endpoints=local,
        has_endpoints=usable,
        serving_endpoints=serving,
    )


def _cluster(places: Places, zone: str) -> tuple[Endpoint, ...]:
    prefer = preference(places.values(), zone)
    chosen = [
        key for key, each in places.items() if each.ready and _available(each, prefer, zone)
    ] or [key for key, each in places.items() if each.fallback]
    return _endpoints(chosen, places)


def _local(places: Places) -> tuple[Endpoint, ...]:
    here = [(key, each) for key, each in places.items() if each.is_local]
    chosen = [key for key, each in here if each.ready] or [
        key for key, each in here if each.fallback
    ]
    return _endpoints(chosen, places)


def _available(place: Place, prefer: Preference, zone: str) -> bool:
    if prefer is Preference.SAME_NODE:
        return place.for_this_node is True
    return prefer is Preference.NONE or (place.zones is not None and zone in place.zones)


def _endpoints(keys: Iterable[tuple[str, int]], places: Places) -> tuple[Endpoint, ...]:
    return tuple(sorted(Endpoint(ip, port, places[ip, port].is_local) for ip, port in keys))
